package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpurge/walpurge/cdc"
)

// history asks the walsender how its timeline came to be. A server that has lost the
// file cannot tell, so that nothing on an older timeline counts as its own.
func (r *Reader) history(ctx context.Context, conn *pgconn.PgConn, timeline int32) ([]cdc.Ancestor, error) {
	if timeline == 1 {
		return nil, nil
	}
	file, err := pglogrepl.TimelineHistory(ctx, conn, timeline)
	switch {
	case sqlState(err) != "":
		r.conditions.At(noHistory).Observe("timeline", timeline, "err", err)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the history of timeline %d: %w", timeline, err)
	}
	return parseHistory(string(file.Content))
}

// parseHistory reads a timeline history file: on each line an ancestor, where it was left,
// and a reason in words. Lines may be empty or comments.
func parseHistory(content string) ([]cdc.Ancestor, error) {
	var out []cdc.Ancestor
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("timeline history: unreadable line %q", strings.TrimSpace(line))
		}
		timeline, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("timeline history: unreadable line %q: %w", strings.TrimSpace(line), err)
		}
		end, err := cdc.ParseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("timeline history: unreadable line %q: %w", strings.TrimSpace(line), err)
		}
		out = append(out, cdc.Ancestor{Timeline: uint32(timeline), End: end})
	}
	return out, nil
}
