package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra/doc"

	"github.com/walpurge/walpurge/cmd/cli"
)

// writeMan writes one manual page for every command. Their date is that of
// SOURCE_DATE_EPOCH, else the beginning of 1970: the day of the build would make
// two builds differ.
func writeMan(dir, version string) error {
	at := time.Unix(0, 0).UTC()
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", text)
		}
		at = time.Unix(seconds, 0).UTC()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root := cli.Root(version)
	root.DisableAutoGenTag = true
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "walpurge " + version, Manual: "walpurge", Date: &at}, dir)
}

// writeCompletion writes what shells read, under the names that they look for.
func writeCompletion(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root := cli.Root("")
	return errors.Join(
		root.GenBashCompletionFileV2(filepath.Join(dir, "walpurge"), true),
		root.GenZshCompletionFile(filepath.Join(dir, "_walpurge")),
		root.GenFishCompletionFile(filepath.Join(dir, "walpurge.fish"), true),
	)
}
