package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/scenario/results"
)

// Gate runs variants 1 and 3 in turn, three times, and 2+bypass once, at a fixed rate, so that what
// it counts does not depend on the machine. It blocks like Run, and cleans up like it.
func Gate(ctx context.Context, sc Scenario, opt Options) (out results.Measured, err error) {
	var group harness.Group
	defer func() { err = errors.Join(err, group.Close()) }()
	r, err := prepare(ctx, sc, opt, &group)
	if err != nil {
		return out, err
	}
	begun := time.Now()
	byName := map[string]Variant{}
	for _, v := range sc.variants() {
		byName[v.Name] = v
	}
	stages := []Timed{{Name: "gate", Rate: sc.Gate.Rate, Lasting: sc.Gate.Lasting}}
	run := func(name string) (results.Stage, error) {
		v, _, err := r.variant(ctx, byName[name], stages)
		if err != nil {
			return results.Stage{}, fmt.Errorf("variant %s: %w", name, err)
		}
		return v.Stages[0], nil
	}
	for range cmp.Or(opt.Alternations, 3) {
		for _, x := range []struct {
			name string
			to   *[]results.Stage
		}{{"1", &out.TTL}, {"3", &out.Walpurge}} {
			s, err := run(x.name)
			if err != nil {
				return out, err
			}
			*x.to = append(*x.to, s)
		}
	}
	if out.Bypass, err = run("2+bypass"); err != nil {
		return out, err
	}
	r.say("the gate took %s", time.Since(begun).Round(time.Second))
	return out, nil
}
