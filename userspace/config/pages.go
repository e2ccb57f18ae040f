package config

import (
	"cmp"
	"errors"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"fairlead/internal/regular"
	"fairlead/userspace/model"
)

// maxPage bounds the files of error pages.
const maxPage = 1 << 20

// errorPages reads the bodies of answers.
func (r *reader) errorPages(v value) []model.ErrorPage {
	all := []model.ErrorPage{}
	r.list(v, func(v value) {
		if p, ok := r.errorPage(v); ok {
			all = append(all, p)
		}
	})
	return all
}

func (r *reader) errorPage(v value) (p model.ErrorPage, ok bool) {
	before := len(r.faults)
	usual, kind := "text/plain; charset=utf-8", ""
	met := r.object(v, fields{
		"status": func(v value) { r.errorStatus(v, &p) },
		"file": func(v value) {
			var name string
			if name, p.Body, _ = r.content(v, maxPage); name != "" {
				usual = typeOf(name, p.Body)
			}
		},
		"text":     func(v value) { r.set(v, &p.Body) },
		"type":     func(v value) { r.contentType(v, &kind) },
		"backends": func(v value) { r.boolean(v, &p.Backends) },
	})
	if len(met) == 0 && len(r.faults) > before {
		return p, false
	}
	p.Type = cmp.Or(kind, usual)
	r.require(v, met, "status", "is missing: give one or a range, such as 404 or 500-599")
	_, hasFile := met["file"]
	text, hasText := met["text"]
	switch {
	case hasFile && hasText:
		r.fault(text, "stands beside a file: remove one of the two")
	case !hasFile && !hasText:
		r.require(v, met, "file", "is missing: name one that has the page, or write it as text")
	}
	return p, len(r.faults) == before
}

func (r *reader) contentType(v value, p *string) {
	s, ok := r.text(v)
	if ok && (!strings.Contains(s, "/") || !httpguts.ValidHeaderFieldValue(s)) {
		r.fault(v, "%s is not a type: write it like text/html; charset=utf-8", quote(s))
	}
	*p = s
}

// typeOf returns the type of a file.
func typeOf(name, body string) string {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".html", ".htm":
		return "text/html; charset=utf-8"
	case ".json":
		return "application/json"
	case ".txt":
		return "text/plain; charset=utf-8"
	}
	return http.DetectContentType([]byte(body))
}

func (r *reader) errorStatus(v value, p *model.ErrorPage) {
	s, ok := r.text(v)
	if !ok {
		return
	}
	m := statusSyntax.FindStringSubmatch(s)
	if m == nil || m[1] < "400" || m[2] != "" && m[2] < m[1] {
		r.fault(v, "%s is neither a status from 400 to 599 nor a range of them: write it like 404 or 500-599", quote(s))
		return
	}
	p.Low, _ = strconv.Atoi(m[1]) // digits by the expression
	if p.High = p.Low; m[2] != "" {
		p.High, _ = strconv.Atoi(m[2])
	}
}

// content returns the text of a file that the configuration names, from its own
// directory on if the name is relative, or what it had last.
func (r *reader) content(v value, limit int64) (name, text string, ok bool) {
	f := fileValue{}
	if f.name, ok = r.text(v); !ok {
		return "", "", false
	}
	name = r.beside(f.name)
	f.text, f.err = readAtMost(name, limit)
	if r.take(&f) {
		return name, f.text, true
	}
	switch {
	case errors.Is(f.err, regular.ErrKind):
		r.fault(v, "%s is no regular file: name one", quote(name))
	case errors.Is(f.err, errLarge):
		r.fault(v, "%s has more than %d bytes: name a smaller one", quote(name), limit)
	default:
		r.fault(v, "%v: write it, or name another", f.err)
	}
	return "", "", false
}
