package config

import (
	"fmt"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// replicas reads the read replicas that purges wait for. Each is known by host and
// port.
func (l *loader) replicas(cfg *Config, pg postgres.Config, n *strictyaml.Node) {
	switch {
	case n == nil:
		return
	case n.Kind == strictyaml.Scalar && n.Text == "auto":
		cfg.ReplicasAuto = true
		return
	case n.Kind != strictyaml.Sequence:
		l.failf(n.Pos, "postgres.replicas: write a list of URLs, such as [postgres://replica.example/shop], or auto")
		return
	}
	named := make(map[string]bool)
	for _, item := range n.Items {
		if item.Kind != strictyaml.Scalar || item.Text == "" {
			l.failf(item.Pos, "postgres.replicas: write each as a URL, such as postgres://replica.example/shop")
			continue
		}
		if l.unset(item.Text) {
			continue
		}
		r, err := pg.ReadReplica(item.Text)
		if err != nil {
			l.each(item.Pos, err, item.Text)
			continue
		}
		for name, i := r.Name, 2; named[r.Name]; i++ {
			r.Name = fmt.Sprintf("%s#%d", name, i)
		}
		named[r.Name] = true
		cfg.Replicas = append(cfg.Replicas, r)
	}
}
