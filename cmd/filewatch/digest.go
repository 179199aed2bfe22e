package filewatch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc/readfile"
)

// Digest is a text that changes when a file that one of the patterns matches
// changes, appears or goes. What cannot be read counts as such.
func Digest(patterns []string) string {
	h := sha256.New()
	for _, file := range matching(patterns) {
		data, err := readfile.Read(file, readfile.MaxCertificate)
		if err != nil {
			data = []byte("unreadable")
		}
		fmt.Fprintf(h, "%d %s %d ", len(file), file, len(data))
		_, _ = h.Write(data) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Content is a text that depends on what the files hold, and not on where they are: two processes
// that see the same files by different paths agree on it.
func Content(patterns []string) string {
	var sums []string
	for _, file := range matching(patterns) {
		data, err := readfile.Read(file, readfile.MaxCertificate)
		if err != nil {
			data = []byte("unreadable")
		}
		sum := sha256.Sum256(data)
		sums = append(sums, hex.EncodeToString(sum[:]))
	}
	slices.Sort(sums)
	all := sha256.Sum256([]byte(strings.Join(sums, "\n")))
	return hex.EncodeToString(all[:16])
}

func matching(patterns []string) []string {
	var files []string
	for _, p := range patterns {
		// A malformed pattern matches nothing; who reads the files says so.
		found, _ := filepath.Glob(p)
		files = append(files, found...)
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// directories are those in which something can happen to the files: theirs, those
// where patterns look for directories, and those that symbolic links lead through.
func directories(patterns []string) []string {
	var dirs []string
	add := func(dir string) {
		found, _ := filepath.Glob(dir)
		for len(found) == 0 && !hasMeta(dir) && dir != filepath.Dir(dir) {
			dir = filepath.Dir(dir) // where it would appear
			found, _ = filepath.Glob(dir)
		}
		for _, d := range append(found, dir) {
			dirs = append(dirs, d)
			if real, err := filepath.EvalSymlinks(d); err == nil && real != d {
				dirs = append(dirs, filepath.Dir(d), real)
			}
		}
	}
	for _, p := range patterns {
		dir := filepath.Dir(p)
		add(dir)
		for up := filepath.Dir(dir); dir != up && hasMeta(dir); dir, up = up, filepath.Dir(up) {
			add(up)
		}
	}
	for _, file := range matching(patterns) {
		if real, err := filepath.EvalSymlinks(file); err == nil && real != file {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	return slices.DeleteFunc(dirs, func(d string) bool {
		info, err := os.Stat(d)
		return err != nil || !info.IsDir()
	})
}

func hasMeta(path string) bool {
	for _, c := range path {
		if c == '*' || c == '?' || c == '[' || c == '\\' {
			return true
		}
	}
	return false
}
