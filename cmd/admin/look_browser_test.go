//go:build browser

package admin

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// typed enters the token, as somebody with a keyboard would.
const typed = `(() => { const t = document.getElementById("token"); t.value = "open-sesame"; t.dispatchEvent(new Event("input")); return true; })()`

// press presses the button with a label, and says whether there is one to see.
func press(label string) string {
	return `(() => { const b = [...document.querySelectorAll("button")].find((b) => !b.hidden && (b.getAttribute("aria-label") || b.textContent) === "` + label + `");
		if (!b || b.closest("[hidden]")) return false; b.focus(); b.click(); return true; })()`
}

func text(id string) string { return `document.getElementById("` + id + `").textContent` }

func TestPageLooksRightOnEveryScreen(t *testing.T) {
	s := &scene{n: 0}
	ctx, stop := open(t, s)
	defer stop()
	for _, bad := range []bool{false, true} {
		name := map[bool]string{false: "fresh", true: "stale"}[bad]
		s.turn(func() {
			s.bad = bad
			if bad {
				s.parked = []Parked{{ID: 7, Sink: "edge", ParkedAt: time.Now(), Error: hostile, Items: []Value{{Rule: "product", Kind: "tag", Value: hostile}}}}
			}
		})
		until(t, ctx, `document.getElementById("verdict").dataset.state === "`+name+`"`)
		until(t, ctx, `document.querySelectorAll("#lag-chart polyline").length === 2`)
		begun := s.seen()
		require.Eventually(t, func() bool { return s.seen() > begun+90 }, time.Minute, 50*time.Millisecond)
		for _, screen := range screens {
			screen.look(t, ctx)
			until(t, ctx, `document.querySelector("#line svg").clientWidth <= innerWidth`)
			require.LessOrEqual(t, eval[int](t, ctx, `document.documentElement.scrollWidth`), int(screen.width), "%s scrolls sideways on %s", name, screen.name)
			shoot(t, ctx, name+"-"+screen.name)
		}
		screens[0].look(t, ctx)
	}
}

func (s *scene) seen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// What rows, providers and clients write is shown as it is, and never becomes a
// part of the page.
func TestPageShowsHostileValuesAsText(t *testing.T) {
	s := &scene{bad: true, parked: []Parked{{ID: 7, Sink: hostile, ParkedAt: time.Now(), Error: hostile, Items: []Value{{Rule: hostile, Kind: hostile, Value: hostile}}}}}
	ctx, stop := open(t, s)
	defer stop()
	require.True(t, eval[bool](t, ctx, typed))
	require.True(t, eval[bool](t, ctx, press("Explain")))
	until(t, ctx, text("explained")+`.includes("onerror")`)
	until(t, ctx, text("parked")+`.includes("onerror")`)
	until(t, ctx, text("sentence")+`.includes("onerror")`)
	require.Zero(t, eval[int](t, ctx, `document.querySelectorAll("img, main script").length`))
	require.NotContains(t, eval[string](t, ctx, `document.title`), "owned")

	// Even a mistake in the page could not make markup of a text.
	require.Equal(t, "TypeError", eval[string](t, ctx, `(() => { try { document.body.innerHTML = "<b>x</b>"; return "allowed"; } catch (e) { return e.name; } })()`))
	require.Equal(t, "blocked", eval[string](t, ctx, `(() => { const s = document.createElement("style"); s.textContent = "body { --x: 1 }"; document.head.append(s);
		return getComputedStyle(document.body).getPropertyValue("--x") ? "allowed" : "blocked"; })()`))
}

func TestPageActs(t *testing.T) {
	s := &scene{parked: []Parked{
		{ID: 7, Sink: "edge", ParkedAt: time.Now(), Error: "tag too long", Items: []Value{{Rule: "product", Kind: "tag", Value: "a"}}},
		{ID: 8, Sink: "edge", ParkedAt: time.Now(), Error: "tag too long", Items: []Value{{Rule: "product", Kind: "tag", Value: "b"}}},
	}}
	ctx, stop := open(t, s)
	defer stop()
	until(t, ctx, `document.querySelectorAll("#parked tbody tr").length === 2`)

	require.True(t, eval[bool](t, ctx, press("Pause cache")))
	until(t, ctx, text("flash")+`.includes("Authorization: Bearer")`)
	require.True(t, eval[bool](t, ctx, `document.getElementById("token-box").open`), "the field for the token opens")
	require.Empty(t, s.did())

	require.True(t, eval[bool](t, ctx, typed))
	require.True(t, eval[bool](t, ctx, press("Pause cache")))
	until(t, ctx, text("flash")+`.includes("cache is paused")`)
	until(t, ctx, `document.activeElement.getAttribute("aria-label") === "Resume cache"`) // the focus stays where the eyes are
	require.True(t, eval[bool](t, ctx, press("Resume cache")))
	until(t, ctx, text("flash")+`.includes("cache goes on")`)
	require.Equal(t, []any{"cache true", "cache false"}, s.did())

	// What cannot be taken back is asked for twice.
	require.True(t, eval[bool](t, ctx, press("Drop")))
	require.True(t, eval[bool](t, ctx, press("Drop for good?")))
	until(t, ctx, text("flash")+`.includes("1 message dropped")`)
	until(t, ctx, `document.querySelectorAll("#parked tbody tr").length === 1`)
	require.True(t, eval[bool](t, ctx, press("Retry")))
	until(t, ctx, `document.getElementById("parked-section").hidden`)
	require.Equal(t, []any{UnparkRequest{Action: "drop", IDs: []uint64{7}}, UnparkRequest{Action: "retry", IDs: []uint64{7}}}, s.did()[2:])

	// The token outlives a reload of the page, and is nowhere that outlives the tab.
	require.NoError(t, chromedp.Do(ctx, chromedp.Reload()))
	until(t, ctx, `document.getElementById("token")?.value === "open-sesame"`)
	require.Zero(t, eval[int](t, ctx, `localStorage.length + document.cookie.length`))
}

// Everything can be reached by the keyboard, in the order of the page.
func TestPageWorksByKeyboard(t *testing.T) {
	ctx, stop := open(t, &scene{})
	defer stop()
	until(t, ctx, `document.querySelectorAll("#sinks tbody tr").length === 2`)
	var reached []string
	for range 12 {
		require.NoError(t, chromedp.Do(ctx, chromedp.KeyEvent("\t")))
		reached = append(reached, eval[string](t, ctx, `(() => { const a = document.activeElement;
			if (getComputedStyle(a).outlineStyle === "none") return "no outline: " + a.outerHTML;
			return a.getAttribute("aria-label") || a.id || a.textContent.trim(); })()`))
	}
	require.Equal(t, []string{"Skip to the status", "Token", "Positions", "Pause cache", "Pause edge", "change", "Explain", "/metrics", "/api/v1/status", "/api/v1/parked"}, reached[:10])
}

// A daemon that is gone is said to be, in the title too.
func TestPageSaysThatTheDaemonIsGone(t *testing.T) {
	ctx, stop := open(t, &scene{})
	until(t, ctx, `document.title.startsWith("FRESH")`)
	stop()
	until(t, ctx, `document.title.startsWith("NO ANSWER")`)
	until(t, ctx, `document.getElementById("verdict").dataset.state === "down"`)
	shoot(t, ctx, "gone")
}

// With the database down the page shows no bar as if it were known, and says so in words.
func TestPageGreysWhatItDoesNotKnow(t *testing.T) {
	s := &scene{}
	ctx, stop := open(t, s)
	defer stop()
	until(t, ctx, `document.querySelectorAll("#line rect.through").length > 0`)
	require.Zero(t, eval[int](t, ctx, `document.querySelectorAll("#line rect.unknown").length`))
	s.turn(func() { s.down = true })
	until(t, ctx, `document.getElementById("verdict").dataset.state === "down"`)
	until(t, ctx, `document.querySelectorAll("#line rect.unknown").length > 0`)
	require.Zero(t, eval[int](t, ctx, `document.querySelectorAll("#line rect.through, #line rect.behind").length`))
	require.True(t, eval[bool](t, ctx, text("line")+`.includes("unknown, ")`))
	require.Zero(t, eval[int](t, ctx, `document.querySelectorAll("#slot meter").length`))
	shoot(t, ctx, "database-down")
	s.turn(func() { s.down = false })
	until(t, ctx, `document.querySelectorAll("#line rect.through").length > 0`)
}

// A problem of a rule is a banner and a table; one that unknown covers is in the table alone.
func TestPageShowsProblems(t *testing.T) {
	problem := map[string]any{"tables": []string{"public.products"}, "rules": []string{"product"}, "sinks": []string{"cache"}, "covered": true, "text": "no column " + hostile, "since": time.Now()}
	s := &scene{problems: []map[string]any{problem}}
	ctx, stop := open(t, s)
	defer stop()
	until(t, ctx, text("problems")+`.includes("note")`)
	require.Equal(t, "fresh", eval[string](t, ctx, `document.getElementById("verdict").dataset.state`))
	require.True(t, eval[bool](t, ctx, text("problems")+`.includes("onerror")`))
	other := map[string]any{"tables": []string{}, "rules": []string{"menu"}, "sinks": []string{"edge"}, "covered": false, "text": "table public.menu is not published", "since": time.Now()}
	s.turn(func() { s.problems = append([]map[string]any{other}, s.problems...) })
	until(t, ctx, `document.getElementById("verdict").dataset.state === "down"`)
	require.Equal(t, 2, eval[int](t, ctx, `document.querySelectorAll("#problems tbody tr").length`))
	s.turn(func() { s.problems = nil })
	until(t, ctx, `document.getElementById("problems-section").hidden`)
	s.turn(func() {
		s.suspicions = []map[string]any{{"sink": "edge", "rule": "menu", "purged": 1000, "existed": 0, "values": "tags", "text": "rule menu may name tags " + hostile}}
	})
	until(t, ctx, text("problems")+`.includes("may name tags") && `+text("problems")+`.includes("note") && `+text("problems")+`.includes("edge")`)
	require.Equal(t, "fresh", eval[string](t, ctx, `document.getElementById("verdict").dataset.state`))
}
