package delivery

import (
	"log/slog"
	"time"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// What a lane logs as conditions; see package condition.
var (
	gateClosed  = condition.Text{Level: slog.LevelWarn, On: "gate still closed, purging without it", Off: "gate open"}
	purgeFails  = condition.Text{Level: slog.LevelWarn, On: "purge failed, trying again", Off: "the sink takes purges again"}
	failsAnew   = condition.Text{Level: purgeFails.Level, On: purgeFails.On, Off: "purges no longer fail in this way"}
	kindFails   = condition.Text{Level: slog.LevelWarn, On: "purges of one kind of value fail, trying them again beside the others", Off: "the sink takes values of this kind again"}
	manualFails = condition.Text{Level: slog.LevelWarn, On: "a manual purge failed, trying again", Off: "the sink takes manual purges again"}
	ackFails    = condition.Text{Level: slog.LevelWarn, On: "acknowledgement failed, the purges will be repeated after a restart", Off: "acknowledgements are sent again"}
	manualAck   = condition.Text{Level: slog.LevelWarn, On: "acknowledgement failed, the manual purge will be repeated after a restart", Off: "acknowledgements of manual purges are sent again"}
	overShare   = condition.Text{Level: slog.LevelWarn, On: "the lane is past its share of the stream, and a flush in place of its backlog cannot be stored yet", Off: "the flush in place of the backlog is stored"}
	unknownKind = condition.Text{Level: slog.LevelError, On: "a message names a kind of value that this version does not know, it is kept and not purged", Off: "the message is replaced by a purge that covers it"}
	stopped     = condition.Text{Level: slog.LevelError, On: "the lane has stopped", Off: "the lane was resumed"}

	flushes          = condition.Text{Level: slog.LevelInfo, On: "flushing the sink"}
	coarsened        = condition.Text{Level: slog.LevelInfo, On: "coarser values replace those of a backlog"}
	replaced         = condition.Text{Level: slog.LevelWarn, On: "the sink refuses a value for good, coarser ones were purged in its place"}
	parks            = condition.Text{Level: slog.LevelError, On: "the sink refuses invalidations for good, they are parked"}
	unbuilds         = condition.Text{Level: slog.LevelError, On: "values of a template could not be built, and no purge that the sink takes covers them: one item is parked for all such changes"}
	superseded       = condition.Text{Level: slog.LevelInfo, On: "a manual purge replaces what waits in the lane"}
	supersedeRefused = condition.Text{Level: slog.LevelWarn, On: "the sink refuses a manual purge, so what waits in the lane is kept"}
	overflows        = condition.Text{Level: slog.LevelError, On: "the lane is past its share of the stream, a flush replaces its backlog"}
)

// told are the conditions that the machine observes.
var told = map[machine.Condition]condition.Text{
	machine.Flushes: flushes, machine.Coarsened: coarsened, machine.Replaced: replaced, machine.Parks: parks, machine.Unbuilds: unbuilds,
	machine.KindFails: kindFails, machine.ManualFails: manualFails, machine.UnknownKind: unknownKind,
	machine.Superseded: superseded, machine.SupersedeRefused: supersedeRefused,
}

// observe logs what the machine has observed.
func (l *Lane) observe(n *machine.Note) {
	attrs := n.Attrs
	if n.Counted != "" {
		attrs = append(attrs, n.Counted, condition.Sum(n.N))
	}
	l.conditions.At(told[n.Condition], n.Labels...).Observe(attrs...)
}

// purgedEarly records that a message is purged while a gate is closed. The gate's condition lasts
// until each such message has passed the gate: one that is open for a later message may still be
// closed for an earlier one.
func (l *Lane) purgedEarly(gate int, m invalidation.Message, waited time.Duration) {
	l.display.mu.Lock()
	if l.display.early[gate] == nil {
		l.display.early[gate] = make(map[uint64]struct{})
	}
	l.display.early[gate][m.Seq] = struct{}{}
	l.show()
	l.display.mu.Unlock()
	l.gateClosed(gate).
		Observe("waited", waited.Round(time.Millisecond), "purged_early", condition.Sum(1), "items", condition.Sum(machine.SizeOf(m.Batch)))
}

// passed records that a gate holds a message no longer.
func (l *Lane) passed(gate int, m invalidation.Message) {
	l.display.mu.Lock()
	_, held := l.display.early[gate][m.Seq]
	delete(l.display.early[gate], m.Seq)
	open := held && len(l.display.early[gate]) == 0
	l.show()
	l.display.mu.Unlock()
	if open {
		l.gateClosed(gate).End()
	}
}

func (l *Lane) gateClosed(gate int) condition.Condition {
	g := &l.cfg.Gates[gate]
	if g.Member == "" {
		return l.conditions.At(gateClosed, "gate", g.Name)
	}
	return l.conditions.At(gateClosed, "gate", g.Name, "member", g.Member)
}

// failed logs a failed request. The class tells conditions apart, and not the text of the error: it
// may hold a request id.
func (l *Lane) failed(class sinks.Class, err error) {
	if name := class.String(); name != l.failing {
		if l.failing != "" {
			l.conditions.At(failsAnew, "class", l.failing).End()
		}
		l.failing = name
	}
	l.conditions.At(purgeFails, "class", l.failing).Observe("err", err, "retries", condition.Sum(1))
}

// succeeded logs that the sink works again, if it failed before.
func (l *Lane) succeeded() {
	if l.failing != "" {
		l.conditions.At(purgeFails, "class", l.failing).End()
		l.failing = ""
	}
}
