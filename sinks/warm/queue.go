package warm

import (
	"container/list"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// queue knows which pages wait: first for the edges, as the arrival that brought them, then for their turn. It has no
// lock and no clock.
type queue struct {
	maxAge time.Duration
	// room is how many pages may wait.
	room int
	// pages counts those that do.
	pages int
	// arrivals wait for the edges, oldest first.
	arrivals *list.List
	// ready are pages in the order in which the edges had purged them; byURL has the elements by URL.
	ready *list.List
	byURL map[string]*list.Element
	// busy are fetched, or purged once more, at present.
	busy map[string]*page
}

// arrival is what one batch brought.
type arrival struct {
	batch   *invalidation.Batch
	urls    []string
	arrived time.Time
	// asked: a goroutine waits for the edges.
	asked bool
	// place is nil when the arrival has left the queue.
	place *list.Element
}

func (a *arrival) at() time.Time { return a.batch.Stamp.LastCommit }

// page is a URL that waits or is fetched.
type page struct {
	url string
	// at is the commit of the newest change, first the position of the oldest.
	at    time.Time
	first cdc.Position
	// tries is how often it was fetched in vain, because an edge purged it meanwhile.
	tries int
}

func newQueue(maxAge time.Duration, room int) *queue {
	return &queue{maxAge: maxAge, room: room, arrivals: list.New(), ready: list.New(), byURL: map[string]*list.Element{}, busy: map[string]*page{}}
}

// add takes a batch's URLs, and returns how many pages had to go because there was no room: those that have waited
// for longest, whose visitors have fetched them most probably.
func (q *queue) add(b *invalidation.Batch, urls []string, now time.Time) (noRoom int) {
	if over := len(urls) - q.room; over > 0 {
		urls, noRoom = urls[over:], over
	}
	a := &arrival{batch: b, urls: urls, arrived: now}
	a.place = q.arrivals.PushBack(a)
	q.pages += len(urls)
	for q.pages > q.room {
		if first := q.ready.Front(); first != nil {
			q.take(first)
			noRoom++
			continue
		}
		noRoom += q.drop(q.arrivals.Front().Value.(*arrival))
	}
	return noRoom
}

// drop takes an arrival out, and returns the number of its pages; 0 if it has left already.
func (q *queue) drop(a *arrival) int {
	if a.place == nil {
		return 0
	}
	q.arrivals.Remove(a.place)
	a.place = nil
	q.pages -= len(a.urls)
	return len(a.urls)
}

// ask returns the oldest arrival for which no goroutine waits yet, or nil.
func (q *queue) ask() *arrival {
	for e := q.arrivals.Front(); e != nil; e = e.Next() {
		if a := e.Value.(*arrival); !a.asked {
			a.asked = true
			return a
		}
	}
	return nil
}

// keep drops the pages of an arrival that are not wanted, and returns their number.
func (q *queue) keep(a *arrival, wanted func(url string) bool) (dropped int) {
	if a.place == nil {
		return 0
	}
	var left []string
	for _, url := range a.urls {
		if wanted(url) {
			left = append(left, url)
		}
	}
	dropped = len(a.urls) - len(left)
	a.urls = left
	q.pages -= dropped
	return dropped
}

// open makes an arrival's pages ready.
func (q *queue) open(a *arrival) {
	if q.drop(a) == 0 {
		return // it has left already, or has no pages
	}
	for _, url := range a.urls {
		q.put(&page{url: url, at: a.at(), first: a.batch.Stamp.Position})
	}
}

// put makes a page ready. One that is ready already keeps its turn.
func (q *queue) put(p *page) {
	if e := q.byURL[p.url]; e != nil {
		known := e.Value.(*page)
		if known.at.Before(p.at) {
			known.at, known.tries = p.at, p.tries
		}
		if p.first.Before(known.first) {
			known.first = p.first
		}
		return
	}
	q.byURL[p.url] = q.ready.PushBack(p)
	q.pages++
}

// take removes a ready page.
func (q *queue) take(e *list.Element) *page {
	p := q.ready.Remove(e).(*page)
	delete(q.byURL, p.url)
	q.pages--
	return p
}

// expire drops what is too old, and returns the number of pages.
func (q *queue) expire(now time.Time) (tooOld int) {
	old := func(at time.Time) bool { return now.Sub(at) > q.maxAge }
	for e := q.ready.Front(); e != nil; {
		next := e.Next()
		if old(e.Value.(*page).at) {
			q.take(e)
			tooOld++
		}
		e = next
	}
	for e := q.arrivals.Front(); e != nil; {
		next := e.Next()
		if a := e.Value.(*arrival); old(a.at()) {
			tooOld += q.drop(a)
		}
		e = next
	}
	return tooOld
}

// next takes the first ready page that is not busy, or nil.
func (q *queue) next() *page {
	for e := q.ready.Front(); e != nil; e = e.Next() {
		if p := e.Value.(*page); q.busy[p.url] == nil {
			q.take(e)
			q.busy[p.url] = p
			return p
		}
	}
	return nil
}

// done ends what is done with a busy page. With again it is ready once more.
func (q *queue) done(p *page, again bool) {
	delete(q.busy, p.url)
	if again {
		q.put(p)
	}
}

// holds reports whether pages of changes up to a position wait or are fetched.
func (q *queue) holds(upTo cdc.Position) bool {
	reached := func(first cdc.Position) bool { return !upTo.Before(first) }
	for e := q.arrivals.Front(); e != nil; e = e.Next() {
		if reached(e.Value.(*arrival).batch.Stamp.Position) {
			return true
		}
	}
	for e := q.ready.Front(); e != nil; e = e.Next() {
		if reached(e.Value.(*page).first) {
			return true
		}
	}
	for _, p := range q.busy {
		if reached(p.first) {
			return true
		}
	}
	return false
}
