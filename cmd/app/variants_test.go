package app

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/urlvariant"
)

// A manual purge of a page reaches what rules purge of it.
func TestManualPurgesReachVariants(t *testing.T) {
	device := []urlvariant.Variant{{"X-Device": "mobile"}, {"X-Device": "desktop"}}
	require.Equal(t, []string{"https://h/a", "https://h/a X-Device=mobile", "https://h/a X-Device=desktop", "https://h/b X-Device=tablet"},
		withVariants([]string{"https://h/a", "https://h/b X-Device=tablet"}, device))
	require.Equal(t, []string{"https://h/a"}, withVariants([]string{"https://h/a"}, nil))
	require.Empty(t, withVariants(nil, device))
}
