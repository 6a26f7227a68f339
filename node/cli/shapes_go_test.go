package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"time"
)

// fromStruct is a report that is a Go struct, and the structs within it, with
// the comments of their source in dir. Their names begin with prefix, since two
// packages may have a type of one name; root is the name of the outermost.
func fromStruct(root, about, prefix, dir string, value any) []shape {
	b := structShapes{prefix: prefix, comments: structComments(dir), named: map[reflect.Type]string{}}
	b.add(reflect.TypeOf(value), root, about)
	return b.shapes
}

type structShapes struct {
	prefix   string
	comments map[string]string // of Type and Type.Field
	named    map[reflect.Type]string
	shapes   []shape
}

func (b *structShapes) add(t reflect.Type, name, about string) {
	b.named[t] = name
	s := shape{name: name, about: about}
	at := len(b.shapes)
	b.shapes = append(b.shapes, s)
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "" || tag == "-" {
			continue
		}
		kind, nested := b.kind(f.Type)
		s.fields = append(s.fields, field{
			name: tag, kind: kind, about: b.comments[t.Name()+"."+f.Name], shape: nested,
			optional: options == "omitempty",
		})
	}
	b.shapes[at] = s
}

// kind says what stands in a field of type t; a map's values stand for it.
func (b *structShapes) kind(t reflect.Type) (kind, nested string) {
	switch t.Kind() {
	case reflect.Pointer:
		kind, nested = b.kind(t.Elem())
		return kind + " or null", nested
	case reflect.Slice:
		kind, nested = b.kind(t.Elem())
		return "list of " + kind + map[bool]string{true: "s", false: ""}[nested == ""], nested
	case reflect.Map:
		kind, nested = b.kind(t.Elem())
		return "object of " + kind + map[bool]string{true: "s", false: ""}[nested == ""], ""
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return timeKind, ""
		}
		if b.named[t] == "" {
			about := b.comments[t.Name()]
			b.add(t, b.prefix+t.Name(), about)
		}
		return b.named[t], b.named[t]
	case reflect.Bool:
		return "boolean", ""
	case reflect.String:
		return "string", ""
	default:
		return "number", ""
	}
}

// structComments are the comments on the exported structs of a package and
// their fields, in one line each.
func structComments(dir string) map[string]string {
	comments := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return comments
	}
	oneLine := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			continue // the reference then differs, and the test says so
		}
		ast.Inspect(file, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok || len(decl.Specs) != 1 {
				return true
			}
			spec, ok := decl.Specs[0].(*ast.TypeSpec)
			if !ok {
				return true
			}
			about := oneLine(decl.Doc.Text())
			comments[spec.Name.Name] = about
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					for _, name := range f.Names {
						comments[spec.Name.Name+"."+name.Name] = oneLine(f.Doc.Text() + " " + f.Comment.Text())
					}
				}
			}
			return false
		})
	}
	return comments
}
