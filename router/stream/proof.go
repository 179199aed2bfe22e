package stream

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	"github.com/walpurge/walpurge/cdc"
)

// Every client that may publish to the stream can write a claim into it that says anything. So each claim carries a
// keyed hash, whose key this process made at its start and keeps in memory: only what it published itself
// moves watermarks as it says. A copy of such a claim further back in the stream is as true as the claim.
//
// Claims of earlier processes prove nothing. What they say is believed as far as the slot confirms it: up to
// the position of this process's first epoch. All that lies beyond comes again from the slot.

// proofKey is the key of a process.
type proofKey []byte

func newProofKey() proofKey {
	key := make(proofKey, 32)
	_, _ = rand.Read(key) // never fails: see crypto/rand
	return key
}

// claim is the proof of a claim.
func (k proofKey) claim(p *progress) []byte {
	h := hmac.New(sha256.New, k)
	var b []byte
	for _, n := range []uint64{p.Epoch, p.Counter, uint64(p.Claim), uint64(p.Database), uint64(p.Timeline), uint64(p.Time.UnixNano())} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, text := range []string{p.SystemID, p.Leader.Address, p.Leader.Host} {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(text))), text...)
	}
	h.Write(b)
	return h.Sum(nil)[:16]
}

// maxEpoch bounds epochs, which rise by one with each session.
const maxEpoch = 1 << 62

// firstEpoch is the first epoch that this process has begun: where its claim lies in the stream, and what it
// says, which is where the slot was.
type firstEpoch struct {
	epoch, seq uint64
	at         cdc.Position
}

// trust says what a claim is good for.
type trust int

const (
	// proven: everything that the claim says has happened.
	proven trust = iota
	// unproven: the claim says nothing. It may be true.
	unproven
	// forged: no process that keeps to the protocol published the claim.
	forged
)

// judge says how far a claim at a place in the stream is to be believed.
func (s *Stream) judge(c cdc.Claim, seq uint64) trust {
	first := s.first.Load()
	switch {
	case c.Own:
		return proven
	case first == nil:
		return unproven
	case seq < first.seq:
		if c.Epoch < first.epoch && c.Position.SystemID == first.at.SystemID && !first.at.Before(c.Position) {
			return proven
		}
		return unproven
	case c.Epoch > s.epoch.Load():
		return unproven // another process may have taken over
	}
	return forged // claims are stored behind the newest one only, which is this process's
}

// reportForged reports a forged claim, which every lane reads, once.
func (s *Stream) reportForged(c cdc.Claim, seq uint64) {
	for newest := s.newestForged.Load(); seq > newest; newest = s.newestForged.Load() {
		if s.newestForged.CompareAndSwap(newest, seq) {
			if s.cfg.Broken != nil {
				s.cfg.Broken(cdc.Gap{Reason: cdc.GapUnprovenClaim, From: s.first.Load().at, To: c.Position})
			}
			return
		}
	}
}
