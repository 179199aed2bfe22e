package httpsink

import (
	"sync"
	"sync/atomic"

	"github.com/walpurge/walpurge/sinks"
)

// Each sends a request for each value, some at once, and returns their errors by place. After a
// throttled one no other is begun: the limit is the account's.
func Each(values []string, atOnce int, send func(value string) error) []error {
	errs := make([]error, len(values))
	slots := make(chan struct{}, atOnce)
	var throttled atomic.Pointer[error]
	var g sync.WaitGroup
	for n, value := range values {
		slots <- struct{}{}
		if first := throttled.Load(); first != nil {
			errs[n] = *first
			<-slots
			continue
		}
		g.Go(func() {
			defer func() { <-slots }()
			errs[n] = send(value)
			if class, _ := sinks.ClassOf(errs[n]); class == sinks.Throttled {
				throttled.CompareAndSwap(nil, &errs[n])
			}
		})
	}
	g.Wait()
	return errs
}
