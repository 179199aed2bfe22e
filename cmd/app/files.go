package app

import (
	"context"
	"slices"
	"sync"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/cmd/filewatch"
)

// files remembers which content of the files was tried last.
type files struct {
	mu    sync.Mutex
	file  string
	globs []string
	tried [2]string // digests of the file, and of the rules files
	// held are digests of their content, as of the same moment.
	held [2]string
}

// reading notes what is about to be read. A change that comes between this and
// the reading is read, and then read once more.
func (f *files) reading() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tried, f.held = f.digest(), content(f.file, f.globs)
}

// triedContent has digests of the content that was tried last: of the file, and of the rules files.
func (f *files) triedContent() [2]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

// content has the same digests of the files as they are now.
func (f *files) content() [2]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return content(f.file, f.globs)
}

func content(file string, globs []string) [2]string {
	return [2]string{filewatch.Content([]string{file}), filewatch.Content(globs)}
}

// ContentDigest says what the files of a configuration hold, wherever they are: a daemon that shows
// the same one in its status has them in service.
func ContentDigest(cfg *config.Config) string { return joined(content(cfg.File, cfg.Globs)) }

func joined(digests [2]string) string { return digests[0] + "-" + digests[1] }

// note takes over the patterns of a file that could be read.
func (f *files) note(cfg *config.Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == cfg.File && slices.Equal(f.globs, cfg.Globs) {
		return
	}
	first := f.file == ""
	f.file, f.globs = cfg.File, cfg.Globs
	now, holds := f.digest(), content(f.file, f.globs)
	if first {
		f.tried[0], f.held[0] = now[0], holds[0]
	}
	f.tried[1], f.held[1] = now[1], holds[1]
}

func (f *files) digest() [2]string {
	return [2]string{filewatch.Digest([]string{f.file}), filewatch.Digest(f.globs)}
}

// changed reports that the files are not what was tried last.
func (f *files) changed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tried != f.digest()
}

func (f *files) patterns() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{f.file}, f.globs...)
}

// watchFiles reloads when the files have changed, and once for each change: what
// cannot be used is told and not tried again.
func (d *Daemon) watchFiles(ctx context.Context) error {
	return filewatch.Run(ctx, filewatch.Config{
		Patterns: d.files.patterns,
		Look: func(ctx context.Context) {
			if d.files.changed() {
				d.log.Info("files have changed, reloading")
				_ = d.Reload(ctx) // which logs it
			}
		},
		Logger: d.log.With("component", "files"),
	})
}
