package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// MinPostgres is the oldest major version that demo and tests are run on. The product
// itself supports one more, which is tried among the majors.
const MinPostgres = 15

// PostgresBinEnv names the directory of the PostgreSQL binaries to use,
// instead of the newest ones found.
const PostgresBinEnv = "WALPURGE_PG_BIN"

// Binaries are an installation of PostgreSQL.
type Binaries struct {
	// Dir holds initdb, postgres and the client programs.
	Dir string
	// Major is the major version.
	Major int
	// Version is what postgres --version prints.
	Version string
}

// Path returns the path of one program, such as "pg_basebackup".
func (b Binaries) Path(program string) string { return filepath.Join(b.Dir, program) }

// FindPostgres returns what FindMajor finds for the major version in WALPURGE_PG_MAJOR, or, where
// that is not set, what FindInstalled finds.
func FindPostgres() (Binaries, error) {
	if text := os.Getenv(MajorEnv); text != "" {
		major, err := strconv.Atoi(text)
		if err != nil {
			return Binaries{}, fmt.Errorf("%s: %w", MajorEnv, err)
		}
		return FindMajor(major)
	}
	return FindInstalled()
}

// FindInstalled returns the installation that WALPURGE_PG_BIN names, else the newest one of version
// 15 or later among /usr/lib/postgresql/*/bin and PATH. It has client programs, too.
func FindInstalled() (Binaries, error) {
	if dir := os.Getenv(PostgresBinEnv); dir != "" {
		b, err := inspect(dir)
		if err != nil {
			return Binaries{}, fmt.Errorf("%s: %w", PostgresBinEnv, err)
		}
		if b.Major < MinPostgres {
			return Binaries{}, fmt.Errorf("%s names PostgreSQL %d, need %d or newer", PostgresBinEnv, b.Major, MinPostgres)
		}
		return b, nil
	}
	// The pattern is constant, so Glob cannot fail.
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, program := range []string{"initdb", "postgres"} {
		if path, err := exec.LookPath(program); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	var best Binaries
	for _, dir := range dirs {
		if b, err := inspect(dir); err == nil && b.Major > best.Major {
			best = b
		}
	}
	if best.Major < MinPostgres {
		return Binaries{}, fmt.Errorf("no PostgreSQL %d or newer (initdb, postgres) in /usr/lib/postgresql/*/bin or PATH: run `make deps` or `apt-get install postgresql`, or set %s", MinPostgres, PostgresBinEnv)
	}
	return best, nil
}

var versionNumber = regexp.MustCompile(`\) (\d+)`)

func inspect(dir string) (Binaries, error) {
	b := Binaries{Dir: dir}
	if _, err := os.Stat(b.Path("initdb")); err != nil {
		return b, fmt.Errorf("no initdb: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, b.Path("postgres"), "--version").Output()
	if err != nil {
		return b, fmt.Errorf("ask %s for its version: %w", b.Path("postgres"), err)
	}
	b.Version = string(out)
	m := versionNumber.FindStringSubmatch(b.Version)
	if m == nil {
		return b, fmt.Errorf("%s --version printed %q, which has no version number", b.Path("postgres"), out)
	}
	b.Major, err = strconv.Atoi(m[1])
	return b, err
}

// FindValkey returns the path of valkey-server, else of redis-server, which
// must be of version 7 or later, in PATH.
func FindValkey() (string, error) {
	if path, err := exec.LookPath("valkey-server"); err == nil {
		return path, nil
	}
	const advice = "run `make deps` or `apt-get install valkey-server`"
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", errors.New("neither valkey-server nor redis-server in PATH: " + advice)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", path, err)
	}
	m := redisVersion.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s --version printed %q, which has no version number", path, out)
	}
	if major, err := strconv.Atoi(string(m[1])); err != nil || major < 7 {
		return "", fmt.Errorf("%s is older than 7: %s", path, advice)
	}
	return path, nil
}

var redisVersion = regexp.MustCompile(`v=(\d+)`)
