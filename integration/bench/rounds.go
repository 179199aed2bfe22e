package bench

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// alternate drains one backlog in rounds: by the floor, by the daemon, and by its reader
// alone.
func (b *bench) alternate(ctx context.Context, k Kind) (Result, error) {
	r := Result{Kind: k.Name, Rows: b.cfg.Rows}
	first, peer, ours := b.floor, "floor", publication
	if k.Lists {
		if _, err := b.db.Exec(ctx, lists); err != nil {
			return r, err
		}
		first, peer, ours = func(ctx context.Context, end string) (drained, error) { return b.end2end(ctx, publication, end) }, "without lists", listed
	}
	end, err := write(ctx, b.db, k, b.cfg.Rows)
	if err != nil {
		return r, err
	}
	var bounds []float64
	for n := range b.cfg.Rounds {
		f, err := first(ctx, end)
		if err != nil {
			return r, err
		}
		e, err := b.end2end(ctx, ours, end)
		if err != nil {
			return r, err
		}
		ratio := f.Took.Seconds() / e.Took.Seconds()
		r.Floor, r.E2E, r.Ratios = append(r.Floor, f), append(r.E2E, e), append(r.Ratios, ratio)
		fmt.Fprintf(b.cfg.Out, "%s round %d: %s %s (walsender %s), walpurge %s (cpu %s, walsender %s, peak %d MiB), ratio %.2f",
			k.Name, n+1, peer, short(f.Took), short(f.Sender), short(e.Took), short(e.CPU), short(e.Sender), e.Peak>>20, ratio)
		if !k.Lists {
			a, err := b.alone(ctx, end)
			if err != nil {
				return r, fmt.Errorf("the reader alone: %w", err)
			}
			r.Alone, bounds = append(r.Alone, a), append(bounds, f.Took.Seconds()/a.Took.Seconds())
			fmt.Fprintf(b.cfg.Out, "; its reader alone %s", short(a.Took))
		}
		fmt.Fprintln(b.cfg.Out)
	}
	r.Ratio, r.Bound = median(r.Ratios), median(bounds)
	fmt.Fprintf(b.cfg.Out, "%s: median ratio %.2f (%.2f to %.2f), walpurge %s s (cpu %s s), %s %s s (walsender %s s), peak %d MiB\n",
		k.Name, r.Ratio, slices.Min(r.Ratios), slices.Max(r.Ratios), spread(r.E2E, took), spread(r.E2E, cpu), peer, spread(r.Floor, took), spread(r.Floor, senderCPU), peak(r.E2E)>>20)
	if !k.Lists {
		fmt.Fprintf(b.cfg.Out, "%s: the reader alone, median ratio %.2f (%.2f to %.2f), %s s (cpu %s s, walsender %s s)\n",
			k.Name, r.Bound, slices.Min(bounds), slices.Max(bounds), spread(r.Alone, took), spread(r.Alone, cpu), spread(r.Alone, senderCPU))
	}
	return r, nil
}

func took(d drained) time.Duration      { return d.Took }
func cpu(d drained) time.Duration       { return d.CPU }
func senderCPU(d drained) time.Duration { return d.Sender }

// spread is a median with the least and the most, in seconds.
func spread(all []drained, of func(drained) time.Duration) string {
	v := make([]float64, len(all))
	for i, d := range all {
		v[i] = of(d).Seconds()
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", median(v), slices.Min(v), slices.Max(v))
}

func peak(all []drained) (most int64) {
	for _, d := range all {
		most = max(most, d.Peak)
	}
	return most
}

func short(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}
