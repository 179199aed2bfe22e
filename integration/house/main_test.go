package house

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/walpurge/walpurge/cmd/cli"
)

// asWalpurge makes the test binary the program that the documents call.
const asWalpurge = "HOUSE_AS_WALPURGE"

func TestMain(m *testing.M) {
	if os.Getenv(asWalpurge) != "" {
		os.Exit(cli.Main(os.Args[1:], "test", os.Stdin, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}
