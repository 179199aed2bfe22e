package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// MajorsEnv names the directory that holds servers of other major versions, one
// directory for each version.
const MajorsEnv = "WALPURGE_PG_MAJORS"

// MajorEnv names the major version on which tests run that do not name one themselves.
const MajorEnv = "WALPURGE_PG_MAJOR"

// FindMajor returns the installation of one major version among those that
// deploy/dev/postgres-majors.sh fetches. They have initdb and postgres, and no client
// programs.
func FindMajor(major int) (Binaries, error) {
	dir, err := majorsDir()
	if err != nil {
		return Binaries{}, err
	}
	// The pattern is malformed only if the directory's name is.
	found, err := filepath.Glob(filepath.Join(dir, strconv.Itoa(major)+".*", "bin"))
	if err != nil || len(found) == 0 {
		return Binaries{}, fmt.Errorf("no PostgreSQL %d in %s: run deploy/dev/postgres-majors.sh", major, dir)
	}
	return inspect(found[len(found)-1])
}

func majorsDir() (string, error) {
	if dir := os.Getenv(MajorsEnv); dir != "" {
		return dir, nil
	}
	if os.Geteuid() == 0 {
		// The user postgres, who runs them then, cannot read root's home.
		return "/var/cache/walpurge/postgres", nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("set %s: %w", MajorsEnv, err)
	}
	return filepath.Join(cache, "walpurge", "postgres"), nil
}
