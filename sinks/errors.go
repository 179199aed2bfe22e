package sinks

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Class says what a lane can do about a failed purge.
type Class uint8

const (
	// Transient: try again later. Every error that says nothing else is transient.
	Transient Class = iota
	// Item: these invalidations will never be accepted (malformed, too long);
	// trying again is useless, others may pass.
	Item
	// Lane: nothing will be accepted until a human acts (credentials, unknown
	// zone, missing permission, read-only node). Nothing is given up.
	Lane
	// Throttled: the provider asks for a pause.
	Throttled
)

// String names the class as logs and metrics write it.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "unknown"
}

var classNames = [...]string{Transient: "transient", Item: "item", Lane: "lane", Throttled: "throttled"}

// ClassNames lists what String returns for the classes.
func ClassNames() []string { return classNames[:] }

type classified struct {
	class Class
	after time.Duration
	err   error
	// refusal reports that the service said so.
	refusal bool
}

func (e *classified) Error() string { return e.err.Error() }
func (e *classified) Unwrap() error { return e.err }

// ItemError marks an error as the fault of the invalidations themselves.
func ItemError(err error) error { return &classified{class: Item, err: err} }

// RefusalError is an ItemError that the service has answered, where other ItemErrors are found before it is
// asked. A service that is not what the configuration takes it for may answer so to everything.
func RefusalError(err error) error { return &classified{class: Item, err: err, refusal: true} }

// IsRefusal reports whether the error is a RefusalError.
func IsRefusal(err error) bool {
	var c *classified
	return errors.As(err, &c) && c.refusal
}

// LaneError marks an error that only an operator can repair.
func LaneError(err error) error { return &classified{class: Lane, err: err} }

// ThrottledError marks a provider's request for a pause; after is how long it
// asked for, 0 if it did not say.
func ThrottledError(err error, after time.Duration) error {
	return &classified{class: Throttled, after: after, err: err}
}

// ClassOf returns the class of an error and, for Throttled, the pause asked for.
func ClassOf(err error) (Class, time.Duration) {
	var c *classified
	if errors.As(err, &c) {
		return c.class, c.after
	}
	return Transient, 0
}

// BatchError reports a call in which some invalidations failed and the others
// were carried out.
type BatchError struct {
	// Failed maps places in the batch to their errors; it is never empty.
	Failed map[int]error
}

// Error tells the number and the first failure.
func (e *BatchError) Error() string {
	places := make([]int, 0, len(e.Failed))
	for i := range e.Failed {
		places = append(places, i)
	}
	slices.Sort(places)
	if len(places) == 0 {
		return "no invalidation failed"
	}
	if len(places) == 1 {
		return fmt.Sprintf("1 invalidation failed: %v", e.Failed[places[0]])
	}
	return fmt.Sprintf("%d invalidations failed, the first: %v", len(places), e.Failed[places[0]])
}

// Unwrap returns the failures in order of place, so that errors.As sees them.
func (e *BatchError) Unwrap() []error {
	places := make([]int, 0, len(e.Failed))
	for i := range e.Failed {
		places = append(places, i)
	}
	slices.Sort(places)
	errs := make([]error, len(places))
	for n, i := range places {
		errs[n] = e.Failed[i]
	}
	return errs
}
