package house

import (
	"go/ast"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// single are the lines at info and above that are written at most once for each start, stop,
// reload or request of a person. Whatever may repeat by itself is a condition (cdc/condition).
var single = map[string]string{
	"tables have not been compared with the new rules yet": "a reload",
	"the stream holds more than stream.max_bytes; nothing is dropped, and the reader waits until sinks have purged enough of it or were flushed": "a start or a reload",
	"catching up": "a session",
	"the rest of the backlog comes through the stream": "a session",
	"streaming":                         "a session; one that follows an interruption is the end of that condition",
	"created the slot":                  "once for each slot",
	"created the publication":           "once for each publication",
	"the lane goes on under a new name": "a start",
	"data_dir also holds the stream of another pipeline, which no process reads; once it is not needed, stop the daemon and delete its directories": "a start or a reload",
	"a block of the stream is damaged, what lies behind is given up":                                                                                "a start",
	"the size of the stream is not what the file says":                                                                                              "a start or a reload",
	"changes of files are noticed late, the system gives no notice of them":                                                                         "a start",
	"reload failed, the old configuration goes on":                                                                                                  "a reload that was asked for; attempts that follow are a condition",
	"reloaded":                      "a reload",
	"files have changed, reloading": "a change of the files",
	"exchanging the pipeline for that of a new configuration": "a reload; attempts that fail become rare",
	"running":  "a start",
	"stopping": "a stop",
	"the last acknowledgements may be lost, their purges will be repeated":     "a stop",
	"the slot could not be confirmed, the next start purges again what is not": "a stop",
	"listening": "a start",
	"the stream is lost; opening the pipeline again, which flushes the sinks":                         "once for each loss",
	"another process has taken over the pipeline; standing by":                                        "a takeover",
	"closed the lane of a sink that is gone":                                                          "a start or a reload",
	"stopped before the start was complete":                                                           "a stop",
	"tracing transactions with OpenTelemetry":                                                         "a start",
	"the last traces were not sent":                                                                   "a stop",
	"valkey user may publish to some channels only; make sure that the sink's channel is one of them": "a check",
	"valkey does not tell its history":                                                                "a check",
	"valkey user may purge some keys only; make sure that they are those of the rules":                "a check",
}

// TestWhatRepeatsIsACondition: a line of the daemon's log is in the list, or is written by package
// condition, which bounds how often.
func TestWhatRepeatsIsACondition(t *testing.T) {
	for _, s := range sources(t) {
		top, _, _ := strings.Cut(s.pkg(), "/")
		if top != "cdc" && top != "router" && top != "sinks" && top != "cmd" || s.pkg() == "cdc/condition" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || method.Sel.Name != "Warn" && method.Sel.Name != "Error" && method.Sel.Name != "Info" {
				return true
			}
			text, ok := call.Args[0].(*ast.BasicLit)
			if !ok || text.Kind != token.STRING {
				return true
			}
			message, _ := strconv.Unquote(text.Value)
			if single[message] == "" && !operatorRequest(s.name) {
				t.Errorf("%s:%d: %q may repeat: make it a condition, or list it here with the reason why it does not", s.name, s.line(n), message)
			}
			return true
		})
	}
}

// operatorRequest reports a file whose lines record what a person asked for, one line for each request.
func operatorRequest(file string) bool {
	return strings.HasSuffix(file, "/hand.go") || strings.HasSuffix(file, "/manual.go") || file == "cmd/app/pause.go"
}
