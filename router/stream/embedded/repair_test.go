package embedded

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// storeOf writes so many messages into a stream, and returns the block that holds them.
func storeOf(t *testing.T, dir string, messages int) (block string) {
	t.Helper()
	s := start(t, Config{Dir: dir})
	defer s.Close()
	js, _, closed := connect(t, s)
	defer closed()
	for i := range messages {
		_, err := js.Publish(t.Context(), "a.b", fmt.Append(nil, i))
		require.NoError(t, err)
	}
	return filepath.Join(dir, "jetstream", "$G", "streams", "a", "msgs", "1.blk")
}

// place returns where the nth record of a block begins, counted from 0.
func place(raw []byte, n int) int {
	at := 0
	for range n {
		at += int(binary.LittleEndian.Uint32(raw[at:]))
	}
	return at
}

func TestASequenceThatCannotBeTrueIsCutOff(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data[1") // the name of a directory is no pattern
	block := storeOf(t, dir, 20)
	sound, err := os.ReadFile(block)
	require.NoError(t, err)
	require.Equal(t, len(sound), place(sound, 20), "one record for each message")
	require.NoError(t, repair(filepath.Join(dir, "jetstream"), slog.New(slog.DiscardHandler)))
	same, err := os.ReadFile(block)
	require.NoError(t, err)
	require.Equal(t, sound, same)

	raw := append([]byte(nil), sound...)
	raw[place(raw, 7)+4+5] = 0x55
	require.NoError(t, os.WriteFile(block, raw, 0o600))
	s := start(t, Config{Dir: dir})
	defer s.Close()
	_, stream, closed := connect(t, s)
	defer closed()
	m, err := stream.GetMsg(t.Context(), 7)
	require.NoError(t, err)
	require.Equal(t, "6", string(m.Data))
	_, err = stream.GetMsg(t.Context(), 8)
	require.ErrorIs(t, err, jetstream.ErrMsgNotFound)
	left, err := os.Stat(block)
	require.NoError(t, err)
	require.EqualValues(t, place(sound, 7), left.Size())
}

// A hole in a stream that deletes is no fault, nor is whatever is no record.
func TestWhatTheServerMendsIsLeftToIt(t *testing.T) {
	for name, change := range map[string]func(raw []byte) []byte{
		"hole":    func(raw []byte) []byte { raw[place(raw, 7)+4+2] = 1; return raw },
		"erased":  func(raw []byte) []byte { raw[place(raw, 7)+4+7] = 0x80; return raw },
		"deleted": func(raw []byte) []byte { raw[place(raw, 7)+4+7] = 0x40; raw[place(raw, 7)+4+5] = 1; return raw },
		"length":  func(raw []byte) []byte { raw[place(raw, 7)+2] = 0x55; return raw },
		"empty":   func([]byte) []byte { return nil },
		"cut":     func(raw []byte) []byte { return raw[:place(raw, 7)+9] },
		"short":   func(raw []byte) []byte { return raw[:place(raw, 8)-3] },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			block := storeOf(t, dir, 20)
			raw, err := os.ReadFile(block)
			require.NoError(t, err)
			raw = change(raw)
			require.NoError(t, os.WriteFile(block, raw, 0o600))
			require.NoError(t, repair(filepath.Join(dir, "jetstream"), slog.New(slog.DiscardHandler)))
			left, err := os.Stat(block)
			require.NoError(t, err)
			require.EqualValues(t, len(raw), left.Size())
		})
	}
}
