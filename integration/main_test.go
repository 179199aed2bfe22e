package integration

import (
	"fmt"
	"os"
	"testing"

	"github.com/walpurge/walpurge/cmd/cli"
)

// asDaemon makes the test binary behave as the walpurge command, so that tests
// can kill it.
const asDaemon = "WALPURGE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		os.Exit(cli.Main(os.Args[1:], "test", os.Stdin, os.Stdout, os.Stderr))
	}
	if spec := os.Getenv(asNATS); spec != "" {
		os.Exit(serveNATS(spec))
	}
	if err := os.Unsetenv("WALPURGE_FAILPOINTS"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// rounds is how often a test repeats what happens at random: short, or long when
// there is time for it (make test-full).
func rounds(short, long int) int {
	if full {
		return long
	}
	return short
}
