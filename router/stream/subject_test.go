package stream

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPipelinesOfStreams(t *testing.T) {
	for _, c := range []struct {
		name    string
		streams []string
		want    []string
	}{
		{"none", nil, nil},
		{"one", []string{"walpurge_shop", "walpurge_shop_hand", "walpurge_shop_parked"}, []string{"shop"}},
		{"one whose first start was killed", []string{"walpurge_shop"}, []string{"shop"}},
		{"two", []string{"walpurge_app", "walpurge_app_hand", "walpurge_app_parked", "walpurge_shop", "walpurge_shop_hand", "walpurge_shop_parked"}, []string{"app", "shop"}},
		{"one whose name ends like a stream beside", []string{"walpurge_left_hand", "walpurge_left_hand_hand", "walpurge_left_hand_parked"}, []string{"left_hand"}},
		{"another's", []string{"orders", "walpurge_shop"}, []string{"shop"}},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, Pipelines(c.streams)) })
	}
}
