package webhook

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Each kind has a form in a body, those that the sink does not take included.
func TestEveryKindHasAForm(t *testing.T) {
	for k := range invalidation.Kind(invalidation.NumKinds) {
		value := "a"
		if k == invalidation.Everything {
			value = ""
		}
		inv := invalidation.Invalidation{Kind: k, Value: value, Rule: "r"}
		var body map[string]any
		require.NoError(t, json.Unmarshal(encode([]invalidation.Invalidation{inv}), &body), k)
		require.Equal(t, k == invalidation.Everything, body["everything"], k)
		if k == invalidation.Everything {
			continue
		}
		item := body["items"].([]any)[0].(map[string]any)
		require.Len(t, item[k.Plural()], 1, k)

		// An expression has a variable for the kind, or fails.
		x, found := compile("[everything]")
		require.Empty(t, found)
		_, err := x.body(t.Context(), []invalidation.Invalidation{inv})
		require.Equal(t, (Config{}).Kinds().Has(k), err == nil, "%s: %v", k, err)
	}
}
