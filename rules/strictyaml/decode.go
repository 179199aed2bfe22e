package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Unmarshaler decodes itself from a node. It returns findings made with
// Node.Errorf or Node.Decode; any other error is reported at the node.
type Unmarshaler interface {
	UnmarshalYAML(n *Node) error
}

// Keyed is implemented by a field with the tag yaml:",inline" whose keys are not fields of a struct.
type Keyed interface {
	// Keys lists its keys.
	Keys() []string
	// Into returns a pointer to what the value of a key is decoded into.
	Into(key string) any
}

// Decode stores the document in v, a non-nil pointer. Struct fields need a
// yaml:"name" tag, or yaml:",inline"; fields without one are not in the file.
// A key that is absent, or a list, mapping or pointer that is null, leaves what
// v already holds, so v may carry defaults; an empty document leaves all of it.
// It returns Errors with everything that is wrong with the file.
func (d *Document) Decode(v any) error {
	errs := slices.Clone(d.errs)
	if d.root != nil {
		errs.Add(d.file, d.root.Pos, d.root.Decode(v))
	}
	return errs.Err()
}

// Decode stores the node in v, a non-nil pointer.
func (n *Node) Decode(v any) error {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("decode %s: want a non-nil pointer, got %T", n.file, v)
	}
	d := &decoder{}
	d.value(n, rv.Elem())
	return d.errs.Err()
}

type decoder struct{ errs Errors }

// fail notes that n is not what was wanted.
func (d *decoder) fail(n *Node, want string) {
	if n.Kind == Null {
		d.errs = append(d.errs, n.Errorf("there is no value here, want %s; write one or remove the key", want))
		return
	}
	d.errs = append(d.errs, n.Errorf("%s is not %s", n, want))
}

func (d *decoder) value(n *Node, v reflect.Value) {
	if n.bad {
		return
	}
	if v.CanAddr() && v.Addr().CanInterface() {
		switch x := v.Addr().Interface().(type) {
		case *Node:
			*x = *n
			return
		case located:
			d.value(n, reflect.ValueOf(x.locate(n.Pos)).Elem())
			return
		case Unmarshaler:
			if n.Kind == Null && v.Kind() == reflect.Slice {
				return
			}
			if err := x.UnmarshalYAML(n); err != nil {
				d.errs.Add(n.file, n.Pos, err)
			}
			return
		case encoding.TextUnmarshaler:
			d.textUnmarshaler(n, v, x)
			return
		}
	}
	if v.Type() == durationType {
		d.duration(n, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		d.pointer(n, v)
	case reflect.Struct:
		d.structure(n, v)
	case reflect.Slice:
		d.slice(n, v)
	case reflect.Map:
		d.mapping(n, v)
	case reflect.Interface, reflect.Array, reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer, reflect.Uintptr:
		d.errs = append(d.errs, n.Errorf("a %s cannot be decoded", v.Type()))
	default:
		d.scalar(n, v)
	}
}

func (d *decoder) pointer(n *Node, v reflect.Value) {
	if n.Kind == Null && v.Type().Elem() != nodeType {
		return
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	d.value(n, v.Elem())
}

func (d *decoder) slice(n *Node, v reflect.Value) {
	if n.Kind == Null {
		return
	}
	if n.Kind != Sequence {
		d.fail(n, "a list; write it as [a, b] or one per line after -")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items))
	for i, item := range n.Items {
		d.value(item, out.Index(i))
	}
	v.Set(out)
}

func (d *decoder) mapping(n *Node, v reflect.Value) {
	if n.Kind == Null {
		return
	}
	if v.Type().Key().Kind() != reflect.String {
		d.errs = append(d.errs, n.Errorf("a %s cannot be decoded", v.Type()))
		return
	}
	if n.Kind != Mapping {
		d.fail(n, "a mapping of names to values")
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.Pairs))
	for _, p := range n.Pairs {
		d.keyTrap(n.file, p)
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(p.Value, e)
		out.SetMapIndex(reflect.ValueOf(p.Key).Convert(v.Type().Key()), e)
	}
	v.Set(out)
}

// keyTrap refuses the free key no:, which other YAML readers take for false.
func (d *decoder) keyTrap(file string, p Pair) {
	if p.plain && isTrap(p.Key) {
		d.errs.Addf(file, p.Pos, "the key %s is a bool to some readers of YAML; quote it", p.Key)
	}
}

func (d *decoder) structure(n *Node, v reflect.Value) {
	if n.Kind == Null {
		return
	}
	if n.Kind != Mapping {
		d.fail(n, "a mapping of keys to values")
		return
	}
	fields := map[string]reflect.Value{}
	names := collect(v, fields, nil)
	for _, p := range n.Pairs {
		f, ok := fields[p.Key]
		if !ok {
			e := &Error{File: n.file, Line: p.Pos.Line, Column: p.Pos.Column, Text: short(p.Key)}
			e.Msg = "unknown key " + quote(p.Key) + DidYouMean(p.Key, names)
			d.errs = append(d.errs, e)
			continue
		}
		d.value(p.Value, f)
	}
}

// collect finds a struct's fields by name, in their order.
func collect(v reflect.Value, into map[string]reflect.Value, names []string) []string {
	t := v.Type()
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		switch {
		case !t.Field(i).IsExported() || name == "-":
		case options == "inline" && reflect.PointerTo(t.Field(i).Type).Implements(reflect.TypeFor[Keyed]()):
			keyed := v.Field(i).Addr().Interface().(Keyed)
			for _, key := range keyed.Keys() {
				into[key] = reflect.ValueOf(keyed.Into(key)).Elem()
				names = append(names, key)
			}
		case options == "inline" && t.Field(i).Type.Kind() == reflect.Struct:
			names = collect(v.Field(i), into, names)
		case name != "":
			into[name] = v.Field(i)
			names = append(names, name)
		}
	}
	return names
}
