package delivery

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

var errMalformed = sinks.RefusalError(errors.New("HTTP 400"))

// refusing refuses calls with a value of which bad holds.
func refusing(bad func(value string) bool) func([]invalidation.Invalidation) error {
	return func(invs []invalidation.Invalidation) error {
		if slices.ContainsFunc(invs, func(inv invalidation.Invalidation) bool { return bad(inv.Value) }) {
			return errMalformed
		}
		return nil
	}
}

// oneByOne is refusing for a sink that says which values were refused.
func oneByOne(bad func(value string) bool) func([]invalidation.Invalidation) error {
	return func(invs []invalidation.Invalidation) error {
		failed := map[int]error{}
		for i, inv := range invs {
			if bad(inv.Value) {
				failed[i] = errMalformed
			}
		}
		if len(failed) == 0 {
			return nil
		}
		return &sinks.BatchError{Failed: failed}
	}
}

func all(string) bool { return true }

func (w *world) parkedValues() (out []string) {
	for _, b := range w.parked {
		for _, inv := range b.Invalidations(nil) {
			out = append(out, inv.Value)
		}
	}
	return out
}

// A service that refuses everything is blocked, and what it refuses waits for its repair.
func TestAServiceThatRefusesEverything(t *testing.T) {
	for name, form := range map[string]func(func(string) bool) func([]invalidation.Invalidation) error{"calls": refusing, "values": oneByOne} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, after one that was taken: %t", name, before), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					w.run()
					defer w.halt()
					if before {
						w.src.push(batch(1, "first"))
						after(time.Second)
					}
					w.sink.answers(form(all))
					for n := range 2000 {
						w.src.push(batch(uint64(2+n), fmt.Sprint("v", n)))
					}
					after(10 * time.Minute)
					status := w.lane.Status()
					require.Equal(t, Blocked, status.State)
					require.Equal(t, "lane", status.Class)
					require.Contains(t, status.Err, "no fault of the values")
					require.Contains(t, status.Err, "HTTP 400")
					at, limit := len(w.parked), machine.MaxUnproven
					if before {
						limit = 1
					}
					require.LessOrEqual(t, len(w.parkedValues()), limit)

					w.sink.answers(nil)
					after(time.Minute)
					require.Equal(t, OK, w.lane.Status().State)
					require.Equal(t, uint64(2001), w.src.newest())
					require.Len(t, w.parked, at)
					purged := map[string]bool{}
					for _, values := range w.sink.values()[len(w.sink.values())-20:] {
						for _, v := range values {
							purged[v] = true
						}
					}
					require.True(t, purged["v1999"])
				})
			})
		}
	}
}

// Values at fault are parked however many they are, where the service takes others.
func TestManyValuesAtFault(t *testing.T) {
	bad := func(v string) bool { return strings.HasPrefix(v, "bad") }
	for name, form := range map[string]func(func(string) bool) func([]invalidation.Invalidation) error{"calls": refusing, "values": oneByOne} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.sink.answers(form(bad))
				w.run()
				defer w.halt()
				w.src.push(batch(1, "good"))
				after(0)
				for n := range 300 {
					w.src.push(batch(uint64(2+n), fmt.Sprint("bad", n)))
				}
				after(0)
				require.Equal(t, uint64(301), w.src.newest())
				require.Len(t, w.parkedValues(), 300)
				require.Equal(t, OK, w.lane.Status().State)
			})
		})
	}
}

// A service that has taken nothing yet is asked about what else waits, so that bad values at a start block nothing.
func TestManyValuesAtFaultAtTheStart(t *testing.T) {
	bad := func(v string) bool { return strings.HasPrefix(v, "bad") }
	for name, form := range map[string]func(func(string) bool) func([]invalidation.Invalidation) error{"calls": refusing, "values": oneByOne} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var values []string
				for n := range 50 {
					values = append(values, fmt.Sprint("bad", n))
				}
				w.src.push(batch(1, append(values, "good", "bad last")...))
				w.sink.answers(form(bad))
				w.run()
				defer w.halt()
				after(time.Minute)
				require.Equal(t, uint64(1), w.src.newest())
				require.ElementsMatch(t, append(values, "bad last"), w.parkedValues())
				require.Equal(t, OK, w.lane.Status().State)
			})
		})
	}
}

// The sink's own verdict on a value says nothing about the service.
func TestWhatNoServiceWasAskedIsParked(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(func([]invalidation.Invalidation) error { return sinks.ItemError(errors.New("not UTF-8")) })
		w.run()
		defer w.halt()
		for n := range 100 {
			w.src.push(batch(uint64(1+n), fmt.Sprint("v", n)))
		}
		after(0)
		require.Len(t, w.parkedValues(), 100)
		require.Equal(t, uint64(100), w.src.newest())
	})
}

// What goes wrong while the lane asks is what the lane acts on.
func TestAQuestionThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		w.src.push(batch(1, "good"))
		after(0)
		w.sink.answers(func(invs []invalidation.Invalidation) error {
			if invs[0].Value == "good" {
				return sinks.ThrottledError(errors.New("429"), time.Minute)
			}
			return errMalformed
		})
		w.src.push(batch(2, "a"), batch(3, "b"))
		after(30 * time.Second)
		require.Equal(t, Throttled, w.lane.Status().State)
		require.Len(t, w.parkedValues(), 1)
		w.sink.answers(refusing(func(v string) bool { return v != "good" }))
		after(5 * time.Minute)
		require.Equal(t, uint64(3), w.src.newest())
		require.Len(t, w.parkedValues(), 2)
		require.Equal(t, OK, w.lane.Status().State)
	})
}

// A manual purge that is taken proves that the service takes others.
func TestAManualPurgeIsAnAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hand := &source{grown: make(chan struct{})}
		w.cfg.Hand = hand
		w.sink.answers(refusing(func(v string) bool { return v != "good" }))
		w.run()
		defer w.halt()
		for n := range 20 {
			w.src.push(batch(uint64(1+n), fmt.Sprint("bad", n)))
		}
		after(time.Minute)
		require.Equal(t, Blocked, w.lane.Status().State)
		hand.push(batch(1, "good"))
		after(time.Minute)
		require.Equal(t, OK, w.lane.Status().State)
		require.Len(t, w.parkedValues(), 20)
	})
}
