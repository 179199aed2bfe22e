package varnish

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
)

// verdict returns nil for a purge that the VCL says it has carried out.
func (c Config) verdict(a httpsink.Answer) error {
	errorf := func(meaning string) error { return fmt.Errorf("HTTP %d: %s", a.Status, meaning) }
	switch s := a.Status; {
	case s == http.StatusOK && len(a.Header.Values(c.Confirm)) > 0:
		return nil
	case s == http.StatusOK:
		return sinks.LaneError(errorf("without the header that `confirm` names, so it may come from the application; let the VCL answer PURGE and BAN"))
	case s == http.StatusBadRequest, s == http.StatusRequestEntityTooLarge, s == http.StatusRequestURITooLong, s == http.StatusRequestHeaderFieldsTooLarge:
		return sinks.ItemError(errorf("the request is refused; is http_req_hdr_len lower than its default?"))
	case s == http.StatusUnauthorized, s == http.StatusForbidden, s == http.StatusMethodNotAllowed:
		return sinks.LaneError(errorf("the purge is not allowed; put this machine's address into the VCL's acl"))
	case s >= 300 && s < 500, s == http.StatusNotImplemented:
		return sinks.LaneError(errorf("the VCL does not know such requests; load the one in the documentation"))
	}
	return errorf("the node is out of order")
}

// weight says which of several nodes' errors stands for all: as long as one may
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
