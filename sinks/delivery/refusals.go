package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// A service that is not what the configuration takes it for, such as a webhook at a wrong path, may refuse
// each purge in the words for a malformed one. Parked one by one, thousands of values would need an
// operator although none of them is at fault. The lane therefore asks the service, when it refuses a second value
// in a row, to purge one that it took before. Refused as well, that is a fault of the lane, which stops
// and tries again.

// maxUnproven is how many values in a row a service may refuse that has taken none of their kind yet.
const maxUnproven = 10

// refusals has, for each kind of value, what the service said last. It belongs to the lane's goroutine.
type refusals [invalidation.NumKinds]struct {
	// taken is the newest value that the service took, if there is one.
	taken invalidation.Invalidation
	known bool
	// inARow counts the values that it refused since then, asked the questions about values that it has not taken yet.
	inARow, asked int
}

// take records values that the service took.
func (r *refusals) take(invs []invalidation.Invalidation) {
	for _, inv := range invs {
		of := &r[inv.Kind]
		of.inARow, of.asked = 0, 0
		if inv.Kind != invalidation.Everything { // a flush is no question
			of.taken, of.known = inv, true
		}
	}
}

// refuse records that the service refused n values of a kind. It returns a value whose purge shows
// whether it refuses every one, or reports that this is to be assumed.
func (r *refusals) refuse(kind invalidation.Kind, n int) (control *invalidation.Invalidation, assumed bool) {
	of := &r[kind]
	of.inARow += n
	if of.known && of.inARow > 1 {
		return &of.taken, false
	}
	return nil, !of.known && of.inARow > maxUnproven
}

// another returns a value that waits in the same turn, for a service that has taken none of the kind: a different one each
// time, the last ones first. It is nil where all that wait are refused.
func (r *refusals) another(refused, waiting []invalidation.Invalidation) *invalidation.Invalidation {
	kind := refused[0].Kind
	var others []invalidation.Invalidation
	for _, inv := range waiting {
		if inv.Kind == kind && kind != invalidation.Everything && !slices.Contains(refused, inv) {
			others = append(others, inv)
		}
	}
	if len(others) == 0 {
		return nil
	}
	of := &r[kind]
	of.asked++
	return &others[len(others)-1-(of.asked-1)%len(others)]
}

// refusesAll returns an error that says that the service refuses all purges of the kind of these
// values, which it refused for cause, or why that could not be found out; nil if it takes others. waiting are
// the values of the turn.
func (l *Lane) refusesAll(intake, work context.Context, refused, waiting []invalidation.Invalidation, cause error) error {
	kind := refused[0].Kind
	control, assumed := l.refusals.refuse(kind, len(refused))
	never := func() error {
		return sinks.LaneError(fmt.Errorf("%w; it has refused every purge by %s so far, so this is no fault of the values: check the settings of the sink and of the service",
			cause, kind))
	}
	if assumed {
		if control = l.refusals.another(refused, waiting); control == nil {
			return never()
		}
	}
	if control == nil {
		return nil
	}
	question := []invalidation.Invalidation{*control}
	if err := l.cfg.Pace.Wait(intake, question); err != nil {
		return err
	}
	began := time.Now()
	err := l.cfg.Sink.Purge(work, question)
	l.metrics.request(time.Since(began), len(question), err)
	class, _ := sinks.ClassOf(err)
	switch {
	case err == nil:
		l.refusals.take(question)
		return nil
	case class == sinks.Item && assumed:
		return never()
	case class == sinks.Item:
		return sinks.LaneError(fmt.Errorf("%w; it also refuses a purge by %s that it took before, so this is no fault of the values: check the settings of the sink and of the service",
			cause, kind))
	}
	return err
}

// answers divides a batch into what the service took and what it refused itself.
func answers(invs []invalidation.Invalidation, batch *sinks.BatchError) (taken, refused []invalidation.Invalidation, cause error) {
	for i, inv := range invs {
		err, failed := batch.Failed[i]
		switch {
		case !failed:
			taken = append(taken, inv)
		case sinks.IsRefusal(err):
			refused = append(refused, inv)
			if cause == nil {
				cause = err
			}
		}
	}
	return taken, refused, cause
}

// withoutRefusals gives what the service refused another error.
func withoutRefusals(invs []invalidation.Invalidation, batch *sinks.BatchError, why error) *sinks.BatchError {
	out := &sinks.BatchError{Failed: make(map[int]error, len(batch.Failed))}
	for i := range invs {
		if err, failed := batch.Failed[i]; failed && sinks.IsRefusal(err) {
			out.Failed[i] = why
		} else if failed {
			out.Failed[i] = err
		}
	}
	return out
}

// answered records what a call returned. It returns the same error, but with the lane's fault in the place of
// refusals where the service refuses everything.
func (l *Lane) answered(intake, work context.Context, invs, waiting []invalidation.Invalidation, err error) error {
	var batch *sinks.BatchError
	switch {
	case err == nil:
		l.refusals.take(invs)
	case errors.As(err, &batch):
		taken, refused, cause := answers(invs, batch)
		l.refusals.take(taken)
		if len(refused) > 0 && len(taken) == 0 {
			if all := l.refusesAll(intake, work, refused, waiting, cause); all != nil {
				return withoutRefusals(invs, batch, all)
			}
		}
	case len(invs) == 1 && sinks.IsRefusal(err):
		if all := l.refusesAll(intake, work, invs, waiting, err); all != nil {
			return all
		}
	}
	return err
}
