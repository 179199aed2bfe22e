package warm

import (
	"container/list"
	"sync"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
)

const (
	// maxHot bounds the pages that are remembered; those that were purged longest ago are forgotten first.
	maxHot = 100_000
	// hotSlack is how long before a change has arrived its page may have been purged: the batch of the edge is published beside that of the
	// warm sink, and a page that was there a moment before is one that visitors ask for.
	hotSlack = time.Second
)

// Hot remembers which pages edges had when they purged them. Its methods may be called from any goroutine.
type Hot struct {
	mu    sync.Mutex
	pages map[edgePage]*list.Element
	order *list.List // of purged, the latest last
}

type edgePage struct{ edge, uri string }

type purged struct {
	edgePage
	at time.Time
}

// NewHot returns one that knows of no page.
func NewHot() *Hot { return &Hot{pages: map[edgePage]*list.Element{}, order: list.New()} }

// Had says that an edge had a page, and has purged it now.
func (h *Hot) Had(edge, url string) {
	uri, ok := uriOf(invalidation.Invalidation{Kind: invalidation.URL, Value: url})
	if !ok {
		return
	}
	page := edgePage{edge, uri}
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.pages[page]; e != nil {
		h.order.Remove(e)
	}
	h.pages[page] = h.order.PushBack(purged{page, time.Now()})
	if h.order.Len() > maxHot {
		delete(h.pages, h.order.Remove(h.order.Front()).(purged).edgePage)
	}
}

// Since reports whether an edge had a page when it purged it for a change that has arrived at some time.
func (h *Hot) Since(edge, url string, arrived time.Time) bool {
	uri, ok := uriOf(invalidation.Invalidation{Kind: invalidation.URL, Value: url})
	if !ok {
		return true // it is refused, and counted, when it is to be fetched
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.pages[edgePage{edge, uri}]
	return e != nil && !e.Value.(purged).at.Before(arrived.Add(-hotSlack))
}
