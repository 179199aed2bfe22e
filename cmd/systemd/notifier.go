package systemd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/walpurge/walpurge/cdc/condition"
)

// What the notifier logs as conditions; see package condition.
var (
	unheard = condition.Text{Level: slog.LevelWarn, On: "the service manager cannot be told", Off: "the service manager is told again"}
	wedged  = condition.Text{
		Level: slog.LevelError, On: "the service manager is not told that the daemon is alive, and will restart it", Off: "the daemon is alive",
	}
)

// Notifier talks to one manager.
type Notifier struct {
	cfg        Config
	conditions *condition.Log
	// send tells the manager; assignments are lines.
	send func(text string)
	// said guards what has been said, so that a reload's READY=1 can neither come
	// before the first one nor after STOPPING=1.
	said     sync.Mutex
	ready    bool
	stopping bool
}

// New returns a notifier that says nothing until Run or Reload.
func New(cfg Config) *Notifier {
	if cfg.Poll == 0 {
		cfg.Poll = 200 * time.Millisecond
	}
	conditions := condition.NewLog(cfg.Logger)
	return &Notifier{cfg: cfg, conditions: conditions, send: func(text string) {
		if err := send(cfg.Socket, text); err != nil {
			conditions.At(unheard).Observe("err", err, "messages", condition.Sum(1))
		} else {
			conditions.At(unheard).End()
		}
	}}
}

// statusEvery is how often the sentence of systemctl status is renewed.
const statusEvery = 10 * time.Second

// Run tells the manager until the context ends, says STOPPING=1 and returns. It
// returns at once if nobody listens.
func (n *Notifier) Run(ctx context.Context) {
	if n.cfg.Socket == "" {
		return
	}
	defer n.conditions.Close()
	defer n.stop()
	n.waitUntilReady(ctx)
	var watchdog, status <-chan time.Time
	if n.cfg.Watchdog > 0 {
		// A third leaves room for one that is late.
		t := time.NewTicker(max(n.cfg.Watchdog/3, time.Millisecond))
		defer t.Stop()
		watchdog = t.C
	}
	if n.cfg.Summary != nil {
		t := time.NewTicker(statusEvery)
		defer t.Stop()
		status = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-watchdog:
			err := n.cfg.Alive()
			if err == nil {
				n.conditions.At(wedged).End()
				n.send("WATCHDOG=1")
			} else {
				n.conditions.At(wedged).Observe("err", err, "within", n.cfg.Watchdog)
			}
		case <-status:
			n.send("STATUS=" + oneLine(n.cfg.Summary(ctx)))
		}
	}
}

// waitUntilReady polls, because readiness is a condition of several parts and
// no event of one.
func (n *Notifier) waitUntilReady(ctx context.Context) {
	t := time.NewTicker(n.cfg.Poll)
	defer t.Stop()
	told := ""
	for {
		err := n.cfg.Ready()
		if err == nil {
			n.said.Lock()
			n.ready = true
			n.send("READY=1\nSTATUS=ready")
			n.said.Unlock()
			return
		}
		if text := err.Error(); text != told {
			told = text
			n.send("STATUS=" + oneLine(text))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Reload runs a reload between RELOADING=1 and READY=1, and returns its error. A
// daemon that is not ready yet, or is stopping, says neither.
func (n *Notifier) Reload(reload func() error) error {
	if n.cfg.Socket == "" || !n.reloading() {
		return reload()
	}
	err := reload()
	status := "STATUS=reloaded"
	if err != nil {
		status = "STATUS=" + oneLine("reload failed, the old configuration goes on: "+err.Error())
	}
	n.said.Lock()
	defer n.said.Unlock()
	if !n.stopping {
		n.send("READY=1\n" + status)
	}
	return err
}

func (n *Notifier) reloading() bool {
	n.said.Lock()
	defer n.said.Unlock()
	if !n.ready || n.stopping {
		return false
	}
	// Type=notify-reload wants the time, so that it can tell reloads apart.
	text := "RELOADING=1"
	if usec, ok := monotonic(); ok {
		text += fmt.Sprintf("\nMONOTONIC_USEC=%d", usec)
	}
	n.send(text)
	return true
}

func (n *Notifier) stop() {
	n.said.Lock()
	defer n.said.Unlock()
	n.stopping = true
	n.send("STOPPING=1\nSTATUS=stopping")
}

// send blocks for a second at most, when the manager does not read.
func send(socket, text string) error {
	conn, err := net.DialTimeout("unixgram", socket, time.Second)
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, err = conn.Write([]byte(text))
	return errors.Join(err, conn.Close())
}

// oneLine keeps a text from becoming further assignments.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
