package harness

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// MinNode is the oldest major version of Node that the examples run on.
const MinNode = 20

var nodeVersion = regexp.MustCompile(`^v(\d+)\.`)

// FindNode returns the path of node in PATH, of version 20 or newer.
func FindNode(ctx context.Context) (string, error) {
	const advice = "run `apt-get install nodejs npm`, or install Node 20 or newer"
	path, err := exec.LookPath("node")
	if err != nil {
		return "", fmt.Errorf("no node in PATH: %s", advice)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("read the version of %s: %w", path, err)
	}
	m := nodeVersion.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s --version printed %q, which has no version number", path, out)
	}
	if major, err := strconv.Atoi(string(m[1])); err != nil || major < MinNode {
		return "", fmt.Errorf("%s is version %s, need %d or newer: %s", path, m[1], MinNode, advice)
	}
	return path, nil
}
