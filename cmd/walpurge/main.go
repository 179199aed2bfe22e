// Command walpurge tells caches what changed in a PostgreSQL database.
package main

import (
	"os"

	"github.com/walpurge/walpurge/cmd/cli"
)

// version is set at build time.
var version = "dev"

func main() {
	os.Exit(cli.Main(os.Args[1:], version, os.Stdin, os.Stdout, os.Stderr))
}
