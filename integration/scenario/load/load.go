package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// Grace is how much later than due the generator may send a request before it counts as late.
const Grace = 20 * time.Millisecond

// Request is a request to send.
type Request struct {
	// Endpoint is what its figures are counted under.
	Endpoint string
	Method   string
	URL      string
	Body     []byte
	Header   http.Header
}

// Result is what became of a request.
type Result struct {
	Endpoint string
	// Due is when the request was to be sent, Sent when it was, Done when its body had been read.
	Due, Sent, Done time.Time
	// Status is 0 where no answer came, and Err says why.
	Status int
	Err    error
	Header http.Header
}

// Latency is the time from when the request was due to the end of its answer.
func (r Result) Latency() time.Duration { return r.Done.Sub(r.Due) }

// Failed reports whether no answer came, or one of the 5xx.
func (r Result) Failed() bool { return r.Err != nil || r.Status >= 500 }

// Late reports whether the generator sent the request later than it should have.
func (r Result) Late() bool { return r.Sent.Sub(r.Due) > Grace }

// Generator sends requests.
type Generator struct {
	// Next makes the next request. It is called by one goroutine at a time.
	Next func(*rand.Rand) Request
	// Seed makes the sequence of requests the same in each run.
	Seed uint64
	// Timeout ends a request without an answer; 0 is 2 s, after which a guest has gone.
	Timeout time.Duration
	// Observe receives each result, and is called by many goroutines at a time.
	Observe func(Result)
}

func (g Generator) client() (*http.Client, func()) {
	timeout := g.Timeout
	if timeout == 0 {
		timeout = 2 * time.Second
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: timeout}).DialContext,
		MaxIdleConnsPerHost: 4096, MaxIdleConns: 0, IdleConnTimeout: time.Minute,
		DisableCompression: true,
	}
	return &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, transport.CloseIdleConnections
}

// Open sends rate requests a second, evenly spaced, for the given time, and returns when each has
// ended. It blocks until then; if ctx ends, it sends no more and returns its error.
func (g Generator) Open(ctx context.Context, rate float64, lasting time.Duration) error {
	if rate <= 0 {
		return fmt.Errorf("the rate %g is not above 0", rate)
	}
	client, closeIdle := g.client()
	defer closeIdle()
	random := rand.New(rand.NewPCG(g.Seed, 0))
	var sent sync.WaitGroup
	defer sent.Wait()
	begun := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range int(rate * lasting.Seconds()) {
		due := begun.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
		r := g.Next(random)
		sent.Go(func() { g.Observe(send(ctx, client, r, due)) })
	}
	return nil
}

// Closed lets workers send one request after the other for the given time, and returns the number
// of answers a second that were no failure.
func (g Generator) Closed(ctx context.Context, workers int, lasting time.Duration) (float64, error) {
	client, closeIdle := g.client()
	defer closeIdle()
	random := rand.New(rand.NewPCG(g.Seed, 1))
	var mu sync.Mutex
	answered := 0
	begun := time.Now()
	end := begun.Add(lasting)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				mu.Lock()
				r := g.Next(random)
				mu.Unlock()
				result := send(ctx, client, r, time.Now())
				g.Observe(result)
				mu.Lock()
				if !result.Failed() {
					answered++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return float64(answered) / time.Since(begun).Seconds(), ctx.Err()
}

func send(ctx context.Context, client *http.Client, r Request, due time.Time) Result {
	out := Result{Endpoint: r.Endpoint, Due: due}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		now := time.Now()
		out.Sent, out.Done, out.Err = now, now, err
		return out
	}
	for name, values := range r.Header {
		req.Header[name] = values
	}
	out.Sent = time.Now()
	resp, err := client.Do(req)
	if err == nil {
		out.Status, out.Header = resp.StatusCode, resp.Header
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	out.Done, out.Err = time.Now(), err
	return out
}
