package shape

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
)

// packed is a Table as it is stored. Numbers of nodes are differences from the node before, and
// files from OIDs, so that trees with tens of thousands of partitions become small.
type packed struct {
	Table
	Tree []int64
	// Kinds has kind, persistence and identity of each node.
	Kinds string
}

// Pack returns the descriptions in a compact form, which Unpack reads.
func Pack(tables []Table) ([]byte, error) {
	out := make([]packed, len(tables))
	for i, t := range tables {
		p := &out[i]
		p.Table = t
		p.Nodes = nil
		var last Node
		kinds := make([]byte, 0, 3*len(t.Nodes))
		for _, n := range t.Nodes {
			p.Tree = append(p.Tree, int64(n.OID)-int64(last.OID), int64(n.Parent)-int64(last.Parent),
				int64(n.File)-int64(n.OID), int64(n.Attached)-int64(last.Attached))
			kinds = append(kinds, n.Kind, n.Persistence, n.Identity)
			last = n
		}
		p.Kinds = string(kinds)
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Unpack reads what Pack returned.
func Unpack(data []byte) ([]Table, error) {
	raw, err := io.ReadAll(flate.NewReader(bytes.NewReader(data)))
	if err != nil {
		return nil, fmt.Errorf("read descriptions of tables: %w", err)
	}
	var in []packed
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, fmt.Errorf("read descriptions of tables: %w", err)
	}
	out := make([]Table, len(in))
	for i, p := range in {
		if len(p.Tree)/4 != len(p.Kinds)/3 {
			return nil, fmt.Errorf("read descriptions of tables: table %d has %d numbers for %d nodes", p.OID, len(p.Tree), len(p.Kinds)/3)
		}
		out[i] = p.Table
		var last Node
		for n := range len(p.Kinds) / 3 {
			d, k := p.Tree[4*n:], p.Kinds[3*n:]
			last.OID = uint32(int64(last.OID) + d[0])
			last.Parent = uint32(int64(last.Parent) + d[1])
			last.File = uint32(int64(last.OID) + d[2])
			last.Attached = uint32(int64(last.Attached) + d[3])
			last.Kind, last.Persistence, last.Identity = k[0], k[1], k[2]
			out[i].Nodes = append(out[i].Nodes, last)
		}
	}
	return out, nil
}
