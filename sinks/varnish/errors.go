package varnish

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// countForm is how many objects a purge by tag removed.
var countForm = regexp.MustCompile(`^[0-9]+$`)

// verdict returns nil for a purge that the VCL says it has carried out.
func (c Config) verdict(kind invalidation.Kind, a httpsink.Answer) error {
	errorf := func(meaning string) error { return fmt.Errorf("HTTP %d: %s", a.Status, meaning) }
	said := a.Header.Values(c.Confirm)
	switch s := a.Status; {
	case s == http.StatusOK && len(said) == 0:
		from := "it may come from the application"
		if a.Header.Get("X-Varnish") != "" {
			from = "the VCL may have purged nothing"
		}
		return sinks.LaneError(errorf("without the header that `confirm` names (" + c.Confirm + "), so " + from +
			"; load the VCL in the documentation"))
	case s == http.StatusOK && kind == invalidation.Tag && c.Confirm == DefaultConfirm && !countForm.MatchString(said[0]):
		return sinks.LaneError(errorf("its " + c.Confirm + " has no count, so the VCL may not have read the tags; " +
			"load the VCL in the documentation, and let it read them from the header that `header` names (" + c.Header + ")"))
	case s == http.StatusOK:
		return nil
	case s == http.StatusBadRequest, s == http.StatusRequestEntityTooLarge, s == http.StatusRequestURITooLong, s == http.StatusRequestHeaderFieldsTooLarge:
		return sinks.ItemError(fmt.Errorf("HTTP %d", a.Status)) // ask finds out what it means
	case s == http.StatusUnauthorized, s == http.StatusForbidden, s == http.StatusMethodNotAllowed:
		return sinks.LaneError(errorf("the purge is not allowed; put this machine's address into the VCL's acl"))
	case s == http.StatusTooManyRequests:
		return errorf("the VCL limits requests; let it leave purges out")
	case s >= 300 && s < 500, s == http.StatusNotImplemented:
		return sinks.LaneError(errorf("the VCL does not know such requests; load the one in the documentation"))
	}
	return errorf("the node is out of order")
}

// weight says which of several nodes' errors is that of the call: as long as one may
// yet answer otherwise, no invalidation is given up for another's refusal.
func weight(c sinks.Class) int {
	switch c {
	case sinks.Item:
		return 0
	case sinks.Lane:
		return 2
	}
	return 1
}

// shown bounds how many nodes an error names.
const shown = 3

// joined makes one error of the nodes that failed, under the class that the
// lane should act on.
func joined(failures []failure, nodes int) error {
	if len(failures) == 0 {
		return nil
	}
	class := sinks.Item
	texts := make([]string, 0, shown+1)
	for _, f := range failures {
		if c, _ := sinks.ClassOf(f.err); weight(c) > weight(class) {
			class = c
		}
		if len(texts) < shown {
			texts = append(texts, f.node+": "+f.err.Error())
		}
	}
	if more := len(failures) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	// The nodes' errors are not wrapped: their classes would show through.
	err := fmt.Errorf("varnish: %d of %d nodes did not purge: %s", len(failures), nodes, strings.Join(texts, "; "))
	if nodes == 1 {
		err = fmt.Errorf("varnish: the node did not purge: %s", texts[0])
	}
	switch class {
	case sinks.Item:
		return sinks.ItemError(err)
	case sinks.Lane:
		return sinks.LaneError(err)
	}
	return err
}

// failure is one node that did not carry a call out.
type failure struct {
	node string
	err  error
}
