package house

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// TestEveryCauseHasAnOutcome: the table of outcomes in the documents has the causes that the code has.
func TestEveryCauseHasAnOutcome(t *testing.T) {
	_, section, found := strings.Cut(read(t, "docs/guarantees.md"), "### Changes without row events")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var causes []cdc.TableCause
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|.*\\| (gap.*) \\|$").FindAllStringSubmatch(section, -1) {
		causes = append(causes, cdc.TableCause(row[1]))
	}
	require.Equal(t, cdc.TableCauses(), causes)
}
