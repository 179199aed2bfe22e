package embedded

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"

	"github.com/nats-io/nats-server/v2/server"
)

// enlargement is by how much a stream may be made larger while the server runs, for small
// messages that make room.
const enlargement = 1 << 20

// claimed is what the streams of an earlier run reserve, or hold if that is more. The server
// checks changes against the first, and messages against the second. A description that
// cannot be read is the server's to report.
func (s *store) claimed() (bytes int64) {
	root := os.DirFS(s.root)
	for _, stream := range streams(root) {
		var reserved server.FileStreamInfo
		if text, err := fs.ReadFile(root, path.Join(stream, server.JetStreamMetaFile)); err == nil {
			_ = json.Unmarshal(text, &reserved)
		}
		held := int64(0)
		blocks, _ := fs.Glob(root, stream+"/msgs/*.blk")
		for _, block := range blocks {
			if info, err := fs.Stat(root, block); err == nil {
				held += info.Size()
			}
		}
		bytes += max(reserved.MaxBytes, held) + enlargement
	}
	return bytes
}

// streams are the directories of the streams in a store.
func streams(root fs.FS) []string {
	found, _ := fs.Glob(root, "*/streams/*") // fails for a bad pattern alone
	return found
}

// Streams names the streams that a directory of a server holds, whether that runs or not. It is empty for a
// directory that does not exist.
func Streams(dir string) (names []string) {
	for _, stream := range streams(os.DirFS(storeDir(dir))) {
		names = append(names, path.Base(stream))
	}
	return names
}
