package machine

import (
	"errors"
	"fmt"
	"slices"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// A service that is not what the configuration takes it for, such as a webhook at a wrong path, may refuse
// each purge in the words for a malformed one. Parked one by one, thousands of values would need an
// operator although none of them is at fault. The lane therefore asks the service, when it refuses a second value
// in a row, to purge one that it took before. Refused as well, that is a fault of the lane, which stops
// and tries again.

// MaxUnproven is how many values in a row a service may refuse that has taken none of their kind yet.
const MaxUnproven = 10

// refusals has, for each kind of value, what the service said last. It belongs to the machine.
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
	return nil, !of.known && of.inARow > MaxUnproven
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

// doubt is whether a service refuses all purges of a kind, after it has refused some.
type doubt struct {
	kind  invalidation.Kind
	cause error
	// batch is the error of a call of which a part was refused, nil where its only value was.
	batch *sinks.BatchError
	// assumed: it has taken none of the kind so far.
	assumed bool
	// question is what to purge to find out. Without one, err is the outcome of the call.
	question []invalidation.Invalidation
	err      error
}

// doubt records what a call returned. It returns nil where that says nothing about purges of the whole kind. waiting are the
// values of the turn.
func (m *Machine) doubt(invs, waiting []invalidation.Invalidation, err error) *doubt {
	var batch *sinks.BatchError
	switch {
	case err == nil:
		m.refused.take(invs)
	case errors.As(err, &batch):
		taken, refused, cause := answers(invs, batch)
		m.refused.take(taken)
		if len(refused) > 0 && len(taken) == 0 {
			return m.refusesAll(invs, refused, waiting, &doubt{cause: cause, batch: batch, err: err})
		}
	case len(invs) == 1 && sinks.IsRefusal(err):
		return m.refusesAll(invs, invs, waiting, &doubt{cause: err, err: err})
	}
	return nil
}

// refusesAll finds out how to tell whether the service refuses all purges of the kind of these values.
func (m *Machine) refusesAll(invs, refused, waiting []invalidation.Invalidation, d *doubt) *doubt {
	d.kind = refused[0].Kind
	control, assumed := m.refused.refuse(d.kind, len(refused))
	if d.assumed = assumed; assumed {
		if control = m.refused.another(refused, waiting); control == nil {
			d.err = d.instead(invs, d.never())
			return d
		}
	}
	if control == nil {
		return nil
	}
	d.question = []invalidation.Invalidation{*control}
	return d
}

func (d *doubt) never() error {
	return sinks.LaneError(fmt.Errorf("%w; it has refused every purge by %s so far, so this is no fault of the values: check the settings of the sink and of the service",
		d.cause, d.kind))
}

// resolve returns the outcome of a call by the answer to the question: the same error, but with the lane's fault in the
// place of refusals where the service refuses everything, or why that could not be found out.
func (m *Machine) resolve(d *doubt, invs []invalidation.Invalidation, answer error) error {
	class, _ := sinks.ClassOf(answer)
	switch {
	case answer == nil:
		m.refused.take(d.question)
		return d.err
	case class == sinks.Item && d.assumed:
		return d.instead(invs, d.never())
	case class == sinks.Item:
		return d.instead(invs, sinks.LaneError(fmt.Errorf("%w; it also refuses a purge by %s that it took before, so this is no fault of the values: check the settings of the sink and of the service",
			d.cause, d.kind)))
	}
	return d.instead(invs, answer)
}

// instead gives what the service refused another error.
func (d *doubt) instead(invs []invalidation.Invalidation, why error) error {
	if d.batch == nil {
		return why
	}
	out := &sinks.BatchError{Failed: make(map[int]error, len(d.batch.Failed))}
	for i := range invs {
		if err, failed := d.batch.Failed[i]; failed && sinks.IsRefusal(err) {
			out.Failed[i] = why
		} else if failed {
			out.Failed[i] = err
		}
	}
	return out
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
