package strictyaml

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// builder turns the parser's tree into ours and notes what the dialect lacks.
type builder struct {
	file   string
	expand func(string) (string, bool)
	errs   Errors
	depth  int
}

func (b *builder) pos(t *token.Token) Pos {
	if t == nil || t.Position == nil {
		return Pos{Line: 1, Column: 1}
	}
	return Pos{Line: t.Position.Line, Column: t.Position.Column}
}

func (b *builder) node(n ast.Node) *Node {
	b.depth++
	defer func() { b.depth-- }()
	if n == nil {
		return &Node{file: b.file, Kind: Null}
	}
	out := &Node{file: b.file, Pos: b.pos(n.GetToken())}
	if b.depth > MaxDepth {
		out.bad = true
		b.errs = append(b.errs, out.Errorf("nested more than %d deep", MaxDepth))
		return out
	}
	switch x := n.(type) {
	case *ast.NullNode:
		out.raw = x.Token.Value
	case *ast.MappingNode:
		b.mapping(out, x.Values, x.IsFlowStyle)
	case *ast.MappingValueNode:
		b.mapping(out, []*ast.MappingValueNode{x}, false)
	case *ast.SequenceNode:
		out.Kind = Sequence
		out.Items = make([]*Node, len(x.Values))
		for i, v := range x.Values {
			out.Items[i] = b.node(v)
		}
	case *ast.LiteralNode:
		out.Kind, out.Quoted = Scalar, true
		b.text(out, x.Value.Value)
	case *ast.StringNode:
		out.Kind = Scalar
		out.Quoted = x.Token.Type == token.SingleQuoteType || x.Token.Type == token.DoubleQuoteType
		origin := strings.TrimSpace(x.Token.Origin)
		if out.Quoted && len(origin) >= 2 {
			origin = origin[1 : len(origin)-1]
		}
		out.flat = origin == x.Value
		b.text(out, x.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		out.Kind, out.flat = Scalar, true
		b.text(out, n.GetToken().Value)
	case *ast.AnchorNode, *ast.AliasNode:
		out.bad = true
		b.errs = append(b.errs, out.Errorf("anchors (&) and aliases (*) are not supported; write the value out, or quote it if it is text"))
	case *ast.TagNode:
		out.bad, out.raw = true, x.Start.Value
		b.errs = append(b.errs, out.Errorf("type tags (%s) are not supported; quote the value if it is text", quote(out.raw)))
	default:
		out.bad = true
		b.errs = append(b.errs, out.Errorf("%s is not supported here", strings.ToLower(n.Type().String())))
	}
	return out
}

func (b *builder) mapping(out *Node, values []*ast.MappingValueNode, flow bool) {
	out.Kind = Mapping
	first := make(map[string]Pos, len(values))
	for i, v := range values {
		k := b.key(v.Key)
		if i == 0 && !flow {
			out.Pos = k.Pos
		}
		if k.Value != nil { // refused
			continue
		}
		if at, ok := first[k.Key]; ok {
			e := &Error{File: b.file, Line: k.Pos.Line, Column: k.Pos.Column, Text: short(k.Key)}
			e.Msg = "key " + quote(k.Key) + " is repeated; it was first given in line " + itoa(at.Line)
			b.errs = append(b.errs, e)
			b.node(v.Value) // for its own findings
			continue
		}
		first[k.Key] = k.Pos
		k.Value = b.node(v.Value)
		k.Value.Key = k.Pos
		if k.Value.Kind == Null { // the parser's place of nothing depends on what follows
			k.Value.Pos = k.Pos
		}
		out.Pairs = append(out.Pairs, k)
	}
}

// key reads a mapping's key. A Pair that already has a value was refused.
func (b *builder) key(k ast.MapKeyNode) Pair {
	refuse := func(at Pos, msg string) Pair {
		b.errs = append(b.errs, &Error{File: b.file, Line: at.Line, Column: at.Column, Msg: msg})
		return Pair{Pos: at, Value: &Node{}}
	}
	if k == nil {
		return refuse(Pos{Line: 1, Column: 1}, "a key is missing")
	}
	at := b.pos(k.GetToken())
	switch x := k.(type) {
	case *ast.StringNode:
		plain := x.Token.Type != token.SingleQuoteType && x.Token.Type != token.DoubleQuoteType
		return Pair{Key: x.Value, Pos: at, plain: plain}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode, *ast.NullNode:
		return Pair{Key: k.GetToken().Value, Pos: at, plain: true}
	case *ast.MergeKeyNode:
		return refuse(at, "merge keys (<<) are not supported; write the keys out")
	}
	return refuse(at, "a key must be a plain or quoted word")
}

// text sets a scalar's text and expands variables in it.
func (b *builder) text(out *Node, text string) {
	out.raw, out.Text = text, text
	if b.expand == nil || !strings.Contains(text, "${") {
		return
	}
	out.flat = false
	var sb strings.Builder
	for rest := text; ; {
		i := strings.Index(rest, "${")
		if i < 0 {
			sb.WriteString(rest)
			break
		}
		if i > 0 && rest[i-1] == '$' {
			sb.WriteString(rest[:i-1] + "${")
			rest = rest[i+2:]
			continue
		}
		sb.WriteString(rest[:i])
		name, after, ok := strings.Cut(rest[i+2:], "}")
		if !ok || !isName(name) {
			out.bad = true
			b.errs = append(b.errs, out.Errorf("%s: ${ wants a variable's name and }, like ${HOME}; a literal ${ is written $${", quote(short(rest[i:]))))
			return
		}
		value, ok := b.expand(name)
		if !ok {
			out.bad = true
			b.errs = append(b.errs, out.Errorf("the environment variable %s is not set (used as ${%s})", name, name))
			return
		}
		out.Expanded = true
		sb.WriteString(value)
		rest = after
	}
	out.Text = sb.String()
}

func isName(s string) bool {
	for i, r := range s {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}
