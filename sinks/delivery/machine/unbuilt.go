package machine

import (
	"errors"

	"github.com/walpurge/walpurge/rules/invalidation"
)

var errUnbuilt = errors.New("values could not be built, and nothing that the sink takes covers them; " +
	"purge what the template names and drop this item, and give the rule an `unknown` for this sink")

// unbuilt is a template whose values are parked.
type unbuilt struct {
	rule, template string
	of             invalidation.Kind
}

// parkUnbuilt parks the templates of a group for which the rules could build no values, one item
// for each, however many changes lacked some. What a flush covers, or comes again because its gates are closed, is left
// out. It returns what is to be logged once that is durable.
func (m *Machine) parkUnbuilt(group []Ready) (unbuilds []Note) {
	var found []Ready
	counts := make(map[unbuilt]int)
	b := &invalidation.Batch{Sink: m.cfg.Name, Origin: invalidation.FromWAL}
	for _, r := range group {
		if r.Msg.Batch == nil || !r.Final || r.skipped || m.coveredIn(r) {
			continue
		}
		for i := range r.Msg.Batch.Items {
			item := &r.Msg.Batch.Items[i]
			for _, u := range item.Unbuilt {
				key := unbuilt{item.Rule, u.Template, u.Of}
				if counts[key] == 0 {
					b.Items = append(b.Items, invalidation.Item{Rule: item.Rule, Unbuilt: []invalidation.Unbuilt{{Template: u.Template, Of: u.Of}}})
				}
				counts[key] += u.Count
			}
			if n := len(found); len(item.Unbuilt) > 0 && (n == 0 || found[n-1].Msg.Seq != r.Msg.Seq) {
				found = append(found, r)
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	// What is below the item's position is purged, so it is the lowest of the group.
	b.Stamp = found[0].Msg.Batch.Stamp
	for _, r := range found {
		s := r.Msg.Batch.Stamp
		if s.Position.Before(b.Stamp.Position) {
			b.Stamp.Position = s.Position
		}
		if s.FirstCommit.Before(b.Stamp.FirstCommit) {
			b.Stamp.FirstCommit = s.FirstCommit
		}
		if s.LastCommit.After(b.Stamp.LastCommit) {
			b.Stamp.LastCommit = s.LastCommit
		}
	}
	b.Stamp.XIDs = nil
	total := 0
	for i := range b.Items {
		u := &b.Items[i].Unbuilt[0]
		u.Count = counts[unbuilt{b.Items[i].Rule, u.Template, u.Of}]
		total += u.Count
	}
	m.park(b, errUnbuilt, total)
	for key, count := range counts {
		unbuilds = append(unbuilds, Note{Condition: Unbuilds, Labels: []string{"rule", key.rule, "template", key.template}, Counted: "changes", N: count})
	}
	return unbuilds
}
