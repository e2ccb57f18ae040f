package config

import (
	"net/url"
	"time"

	"fairlead/userspace/model"
)

// Bounds and defaults of notifications.
const (
	maxNotifyRate     = 6000
	usualNotifyRate   = 60
	maxNotifyTimeout  = time.Minute
	usualNotifyTime   = 10 * time.Second
	likeNotifyURL     = "write it like https://hooks.example.com/path"
	notifyNeedsTarget = "is missing: give a command, such as [/usr/local/bin/tell], or a url"
)

// notify reads whom to tell of changes.
func (r *reader) notify(v value) (all []model.Notify) {
	r.list(v, func(v value) {
		n := model.Notify{Timeout: usualNotifyTime, Rate: usualNotifyRate}
		before := len(r.faults)
		met := r.object(v, fields{
			"command": func(v value) { n.Command = r.command(v) },
			"url":     func(v value) { r.hook(v, &n.URL) },
			"headers": func(v value) { n.Headers = r.headers(v) },
			"timeout": func(v value) { r.duration(v, &n.Timeout, minDNS, maxNotifyTimeout) },
			"rate":    func(v value) { r.number(v, &n.Rate, 1, maxNotifyRate) },
		})
		_, hasCommand := met["command"]
		place, hasURL := met["url"]
		headers, hasHeaders := met["headers"]
		switch {
		case hasCommand && hasURL:
			r.fault(place, "stands beside a command: remove one of the two, or write two elements")
		case !hasCommand && !hasURL && (len(met) > 0 || len(r.faults) == before):
			r.require(v, met, "command", notifyNeedsTarget)
		case hasHeaders && hasCommand:
			r.fault(headers, "does not belong to a command: remove it")
		}
		all = append(all, n)
	})
	return all
}

// hook reads a URL, which may have secrets in it and is not shown.
func (r *reader) hook(v value, p *string) {
	s, ok := r.text(v)
	if !ok {
		return
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		r.fault(v, "is not a URL to post to: %s", likeNotifyURL)
		return
	}
	*p = s
}
