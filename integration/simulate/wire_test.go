package simulate

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/walpurge/walpurge/cdc"
)

// Messages of the streaming replication protocol, version 2 of pgoutput (manual, chapter
// "Message Formats").

// micros counts from 2000-01-01, as the protocol does.
func micros(t time.Time) uint64 { return uint64(t.UnixMicro() - 946684800_000_000) }

// frame makes a CopyData message.
func frame(body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{'d'}, uint32(len(body)+4))
	return append(b, body...)
}

func walData(payload []byte) []byte {
	b := append([]byte{'w'}, make([]byte, 16)...)
	b = binary.BigEndian.AppendUint64(b, micros(time.Now()))
	return frame(append(b, payload...))
}

func keepaliveMsg(end cdc.LSN, urgent bool) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'k'}, uint64(end))
	b = binary.BigEndian.AppendUint64(b, micros(time.Now()))
	if urgent {
		return frame(append(b, 1))
	}
	return frame(append(b, 0))
}

func beginMsg(tx *txn) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'B'}, uint64(tx.commit))
	b = binary.BigEndian.AppendUint64(b, micros(tx.time))
	return walData(binary.BigEndian.AppendUint32(b, uint32(tx.xid)))
}

func commitMsg(tx *txn) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'C', 0}, uint64(tx.commit))
	b = binary.BigEndian.AppendUint64(b, uint64(tx.end))
	return walData(binary.BigEndian.AppendUint64(b, micros(tx.time)))
}

// relationMsg describes a table with one column, id bigint, its primary key; inside a block
// it names a transaction, as rowMsg does.
func relationMsg(table int, within ...uint64) []byte {
	b := binary.BigEndian.AppendUint32(inBlock('R', within), uint32(table+1))
	b = append(b, "public\x00"+tables[table]+"\x00d\x00\x01\x01id\x00"...)
	b = binary.BigEndian.AppendUint32(b, 20)
	return walData(binary.BigEndian.AppendUint32(b, 0xFFFFFFFF))
}

// rowMsg is an INSERT or a DELETE: either asks for the same purges.
func rowMsg(r row, within ...uint64) []byte {
	op, image := byte('I'), byte('N')
	if r.deleted {
		op, image = 'D', 'K'
	}
	b := append(binary.BigEndian.AppendUint32(inBlock(op, within), uint32(r.table+1)), image, 0, 1, 't')
	id := fmt.Append(nil, r.id)
	return walData(append(binary.BigEndian.AppendUint32(b, uint32(len(id))), id...))
}

func inBlock(typ byte, xids []uint64) []byte {
	b := []byte{typ}
	for _, xid := range xids {
		b = binary.BigEndian.AppendUint32(b, uint32(xid))
	}
	return b
}

func blockStartMsg(xid uint64) []byte { return walData(append(inBlock('S', []uint64{xid}), 0)) }

func blockStopMsg() []byte { return walData([]byte{'E'}) }

func rollbackMsg(xid, sub uint64) []byte { return walData(inBlock('A', []uint64{xid, sub})) }

func streamCommitMsg(tx *txn) []byte {
	b := binary.BigEndian.AppendUint64(append(inBlock('c', []uint64{tx.xid}), 0), uint64(tx.commit))
	b = binary.BigEndian.AppendUint64(b, uint64(tx.end))
	return walData(binary.BigEndian.AppendUint64(b, micros(tx.time)))
}
