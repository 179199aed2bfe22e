package stream

import (
	"crypto/hmac"
	"encoding/json"
	"fmt"
	"time"

	"github.com/walpurge/walpurge/cdc"
)

// progress is the JSON form of a claim, version 1.
type progress struct {
	V        int       `json:"v"`
	Epoch    uint64    `json:"epoch"`
	Counter  uint64    `json:"counter"`
	Claim    cdc.LSN   `json:"claim"`
	SystemID string    `json:"system_id"`
	Database uint32    `json:"database,omitempty"`
	Timeline uint32    `json:"timeline"`
	Time     time.Time `json:"committed_at"`
	// Leader is who published the claim.
	Leader cdc.Leader `json:"leader,omitzero"`
	Proof  []byte     `json:"proof,omitempty"`
}

// encodeClaim writes a claim, and proves with the key who published it.
func encodeClaim(c cdc.Claim, key proofKey) ([]byte, error) {
	p := progress{
		V: 1, Epoch: c.Epoch, Counter: c.Counter, Claim: c.Position.LSN,
		SystemID: c.Position.SystemID, Database: c.Database, Timeline: c.Position.Timeline, Time: c.CommitTime.UTC(), Leader: c.Leader,
	}
	p.Proof = key.claim(&p)
	return json.Marshal(p)
}

func decodeClaim(data []byte, key proofKey) (cdc.Claim, error) {
	var p progress
	if err := json.Unmarshal(data, &p); err != nil {
		return cdc.Claim{}, err
	}
	if p.Epoch >= maxEpoch {
		return cdc.Claim{}, fmt.Errorf("epoch %d", p.Epoch)
	}
	if p.V != 1 {
		return cdc.Claim{}, fmt.Errorf("progress version %d, this program knows version 1", p.V)
	}
	return cdc.Claim{
		Epoch: p.Epoch, Counter: p.Counter, CommitTime: p.Time, Database: p.Database, Leader: p.Leader, Own: hmac.Equal(p.Proof, key.claim(&p)),
		Position: cdc.Position{SystemID: p.SystemID, Timeline: p.Timeline, LSN: p.Claim},
	}, nil
}
