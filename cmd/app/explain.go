package app

import (
	"context"
	"encoding/json"

	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/rules/rulestest"
)

// explain says what the rules in service make of a change, written as
// `walpurge rules explain --change` takes it, and gives the same answer. It asks
// nothing of the database: rows of lookups are part of the change.
func (a *App) explain(ctx context.Context, change []byte) (any, error) {
	lock, err := Locked(a.cfg)
	if err != nil {
		return nil, err
	}
	event, err := rulestest.ParseChange("change", change, lock)
	if err != nil {
		return nil, &admin.BadRequestError{Err: err}
	}
	set := a.set.Load()
	if err := event.Unwatched(set); err != nil {
		return nil, &admin.BadRequestError{Err: err}
	}
	made := event.Explain(ctx, set)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	explained, err := rulestest.MarshalExplanations(made)
	return json.RawMessage(explained), err
}
