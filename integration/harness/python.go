package harness

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// FindPython returns the path of a python3 that can import all modules: the one in PATH, or that of the
// system, for which distributions have packages. The error names the command that installs them.
func FindPython(ctx context.Context, modules ...string) (string, error) {
	return findPython(ctx, []string{"python3", "/usr/bin/python3"}, modules)
}

func findPython(ctx context.Context, candidates, modules []string) (string, error) {
	packages := []string{"python3"}
	for _, m := range modules {
		packages = append(packages, "python3-"+strings.ReplaceAll(m, "_", "-"))
	}
	var errs []error
	for _, name := range candidates {
		path, err := exec.LookPath(name)
		if err == nil {
			err = importsAll(ctx, path, modules)
		}
		if err == nil {
			return path, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("no python3 has all of %s: run `apt-get install %s`: %w", strings.Join(modules, ", "), strings.Join(packages, " "), errors.Join(errs...))
}

func importsAll(ctx context.Context, python string, modules []string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, python, "-c", "import "+strings.Join(append([]string{"sys"}, modules...), ", ")).CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s: %w: %s", python, err, lines[len(lines)-1])
	}
	return nil
}
