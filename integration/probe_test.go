package integration

import (
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLagAgainstAProbe writes rows and looks at their keys: as long as a key is there,
// the lag that the daemon tells is not smaller than the age of its row's commit,
// whatever has stopped.
func TestLagAgainstAProbe(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	signal := func(pid int) (stop, goOn func()) {
		send := func(s syscall.Signal) func() { return func() { require.NoError(t, syscall.Kill(pid, s)) } }
		return send(syscall.SIGSTOP), send(syscall.SIGCONT)
	}
	none := func() {}
	stopSender, contSender := signal(r.walsender())
	for i, c := range []struct {
		name       string
		stop, goOn func()
		pause      time.Duration
	}{
		{"nothing has stopped", none, none, 0},
		{"the lane is held", func() { d.ok("pause", "--sink", "cache") }, func() { d.ok("resume", "--sink", "cache") }, 3 * time.Second},
		{"the walsender stands still", stopSender, contSender, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.stop()
			stopped, looked := time.Now(), 0
			goOn := sync.OnceFunc(c.goOn)
			defer goOn()
			for n := range 3 {
				key := fmt.Sprintf("category:%d", 100*i+n)
				r.fill([]string{key})
				r.exec("INSERT INTO categories (id) VALUES ($1)", 100*i+n)
				committed := time.Now()
				for held := true; held; looked++ {
					asked := time.Now()
					lag, err := strconv.ParseFloat(d.metric(`walpurge_lag_seconds{stage="purged",target="cache"}`), 64)
					require.NoError(t, err)
					if held = len(r.held(key)) > 0; held {
						require.GreaterOrEqual(t, lag, asked.Sub(committed).Seconds(), "the row is older than the lag says")
					}
					if time.Since(stopped) > c.pause && looked > 10 {
						goOn()
					}
					require.Less(t, time.Since(committed), hang)
				}
			}
		})
	}
	d.fresh()
}
