package postgres

// widener makes 64-bit transaction ids of the protocol's 32 bits: the one
// nearest to the newest seen, since running transactions never lie more than
// 2^31 apart.
type widener struct{ newest uint64 }

func (w *widener) widen(xid uint32) uint64 {
	full := w.newest + uint64(int64(int32(xid-uint32(w.newest))))
	if full > w.newest {
		w.newest = full
	}
	return full
}
