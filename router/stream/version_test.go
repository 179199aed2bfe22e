package stream

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOldServersAreRefused(t *testing.T) {
	for version, want := range map[string]bool{
		"2.14.6": false, "2.14.5": true, "2.15.0": false, "2.9.99": true, "3.0.0": false, "v2.14.5": true, "2.14.6-beta.1": false, "dev": false, "": false,
	} {
		require.Equal(t, want, older(version, oldestServer), version)
	}
}
