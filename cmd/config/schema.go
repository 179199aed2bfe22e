package config

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks/valkey"
)

// Schema returns the JSON Schema (2020-12) of the file, for editors. It is derived from the types that the file is read
// into, so it has every key, and knows less than Load: what values and names mean is for Load to say.
func Schema() string {
	root := schemaOf(reflect.TypeFor[rawFile](), "")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "walpurge.yaml"
	root["description"] = "The configuration of the daemon: database, stream, sinks."
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // maps and texts cannot fail
	}
	return string(text) + "\n"
}

type object = map[string]any

// variable is a scalar that holds ${NAME}, which is replaced when the file is read.
var variable = object{"type": "string", "pattern": `\$\{`}

// text is a scalar that is read as a text: YAML needs no quotes for it.
var text = object{"type": []string{"string", "number"}}

// schemaOf returns what a value of the type may be. path names the key in shapes and descriptions; a * replaces a name
// that is free.
func schemaOf(t reflect.Type, path string) object {
	out := typeSchema(t, path)
	shape := shapes[path]
	for _, replaces := range []string{"type", "enum", "anyOf"} {
		if shape[replaces] != nil {
			out = object{}
		}
	}
	maps.Copy(out, shape)
	if keys := required[path]; len(keys) > 0 {
		out["required"] = keys
	}
	if d := descriptions[path]; d != "" {
		out["description"] = d
	}
	return out
}

func typeSchema(t reflect.Type, path string) object {
	switch {
	case t == reflect.TypeFor[strictyaml.Text]():
		return object{"type": text["type"]}
	case t == reflect.TypeFor[urlvariant.Headers]():
		values := object{"anyOf": []object{text, {"type": "array", "items": text, "minItems": 1}}}
		return object{"type": []string{"object", "null"}, "additionalProperties": values}
	case t == reflect.TypeFor[sentinelTLS]():
		block := typeSchema(reflect.TypeFor[valkey.TLSConfig](), path)
		return object{"anyOf": []object{{"type": "boolean"}, block, variable}}
	case t == reflect.TypeFor[publishBlock]():
		block := typeSchema(reflect.TypeFor[valkey.PublishConfig](), path)
		block["type"] = "object"
		return block
	case t == reflect.TypeFor[time.Duration]():
		return object{"anyOf": []object{{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}, {"enum": []any{0, "0"}}, variable}}
	case t == reflect.TypeFor[strictyaml.Size]():
		return object{"anyOf": []object{{"type": "string", "pattern": `^[0-9]+ *(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$`}, {"type": "integer", "minimum": 0}, variable}}
	case strings.HasPrefix(t.Name(), "Located["):
		value, _ := t.FieldByName("Value")
		return typeSchema(value.Type, path)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeSchema(t.Elem(), path)
	case reflect.Bool:
		return object{"anyOf": []object{{"type": "boolean"}, variable}}
	case reflect.Int, reflect.Int64:
		return object{"anyOf": []object{{"type": "integer"}, variable}}
	case reflect.Float64:
		return object{"anyOf": []object{{"type": "number"}, variable}}
	case reflect.Map:
		return object{"type": []string{"object", "null"}, "additionalProperties": schemaOf(t.Elem(), path+".*")}
	case reflect.Slice:
		if strings.HasPrefix(t.Elem().Name(), "Entry[") { // a strictyaml.Map
			value, _ := t.Elem().FieldByName("Value")
			return object{"type": []string{"object", "null"}, "additionalProperties": schemaOf(value.Type, path+".*")}
		}
		return object{"type": []string{"array", "null"}, "items": schemaOf(t.Elem(), path+".[]")}
	case reflect.Struct:
		properties := object{}
		fieldsOf(t, path, properties)
		out := object{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
		if t == reflect.TypeFor[rawSink]() {
			out["type"], out["oneOf"] = "object", oneKind()
		}
		return out
	}
	return object{"type": text["type"]}
}

// fieldsOf adds the keys of a struct. A field without a key that is embedded holds keys of the same block: those that
// read themselves over the defaults are made so.
func fieldsOf(t reflect.Type, path string, into object) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-":
		case f.Type == reflect.TypeFor[rawFlushKinds]():
			var kinds rawFlushKinds
			for _, k := range invalidation.InFlush() {
				schema := schemaOf(reflect.TypeOf(kinds.Into(k.Plural())).Elem(), path+"."+k.Plural())
				schema["description"] = k.About()
				into[k.Plural()] = schema
			}
		case name != "":
			into[name] = schemaOf(f.Type, strings.TrimPrefix(path+"."+name, "."))
		case (f.Anonymous || f.Tag.Get("yaml") == ",inline") && f.Type.Kind() == reflect.Struct:
			fieldsOf(f.Type, path, into)
		}
	}
}

func oneOfWords(words ...string) object { return object{"enum": words} }

// shapes are what the types do not tell of a value. With a type, an enum or anyOf a shape replaces what the type tells.
var shapes = map[string]object{
	"pipeline":                       {"type": "string", "pattern": pipelineForm.String()},
	"rules":                          {"type": "array", "minItems": 1, "items": text},
	"postgres.failover":              {"enum": []any{"auto", true, false}},
	"postgres.on_gap":                oneOfWords("flush", "stop"),
	"postgres.replicas":              {"anyOf": []object{{"enum": []any{"auto", nil}}, {"type": "array", "items": text}, variable}},
	"stream.confirm":                 oneOfWords("synced", "purged"),
	"log.level":                      oneOfWords("info", "debug", "warn", "error"),
	"log.format":                     oneOfWords("text", "json"),
	"sinks.*.mode":                   oneOfWords("purge", "shadow"),
	"sinks.*.on_overflow":            oneOfWords("flush", "stop"),
	"sinks.*.valkey.publish.channel": {"minLength": 1},
	"sinks.*.valkey.mode":            oneOfWords("auto", "standalone", "cluster", "sentinel"),
	"sinks.*.webhook.method":         oneOfWords("POST", "PUT", "PATCH", "DELETE"),

	"sinks.*.cloudflare.plan":            oneOfWords("free", "pro", "business", "enterprise"),
	"sinks.*.valkey.tag_sets.[].layout":  oneOfWords("set", "laravel", "symfony"),
	"sinks.*.cloudfront.distribution_id": {"type": "string", "pattern": `^([A-Z0-9]{8,32}|.*\$\{.*)$`},
	"sinks.*.fastly.service_id":          {"type": "string", "pattern": `^([A-Za-z0-9]+|.*\$\{.*)$`},
	"sinks.*.cloudflare.zone_id":         {"type": []string{"string", "number"}, "pattern": `^([0-9a-fA-F]{32}|.*\$\{.*)$`},
	"sinks":                              {"propertyNames": object{"pattern": sinkForm.String()}, "minProperties": 1},
	"sinks.*.takes.[]":                   {"enum": invalidation.Plurals(invalidation.InRules())},
	"sinks.*.rollout":                    {"anyOf": []object{{"type": "integer", "minimum": 0, "maximum": 100}, variable}},
	"nats.replicas":                      {"anyOf": []object{{"type": "integer", "minimum": 0, "maximum": 5}, variable}},
}

// oneKind says that a sink has exactly one kind.
func oneKind() (kinds []object) {
	for _, c := range Kinds() {
		kinds = append(kinds, object{"required": []string{c.Kind()}})
	}
	none := object{}
	for _, key := range purgingKeys {
		none[key] = false
	}
	return append(kinds, object{"required": []string{"warm", "after"}, "properties": none})
}

// required are the keys that a block must have.
var required = map[string][]string{
	"":                       {"pipeline", "rules", "sinks"},
	"sinks.*.valkey":         {"url"},
	"sinks.*.valkey.publish": {"channel"},
	"sinks.*.cloudflare":     {"api_token_file"},
	"sinks.*.fastly":         {"service_id", "api_token_file"},
	"sinks.*.cloudfront":     {"distribution_id"},
	"sinks.*.varnish":        {"nodes"},
	"sinks.*.warm":           {"base"},
	"sinks.*.webhook":        {"url"},
	"sinks.*.bunny":          {"pull_zone_id", "api_token_file"},
}
