package demo

import (
	"fmt"
	"strings"
)

func (m model) mark(row int) string {
	if row == m.chosen {
		return m.style.chosen.Render(">")
	}
	return " "
}

// name is a process' name, which stands out while it is chosen.
func (m model) name(row int, text string) string {
	if row == m.chosen {
		return m.style.chosen.Render(text)
	}
	return text
}

func (m model) state(s string) string {
	cell := fmt.Sprintf("%-8s", s)
	switch s {
	case stateUp:
		return m.style.good.Render(cell)
	case "killed":
		return m.style.bad.Render(cell)
	}
	return m.style.warn.Render(cell)
}

func (m model) nodeTable() []string {
	lines := []string{m.style.dim.Render(fmt.Sprintf("   %-10s %8s  %-8s  %-10s %6s  %12s  %9s", "node", "pid", "state", "role", "term", "applied", "lag"))}
	for i, n := range m.now.Nodes {
		role, term, applied, lag := "-", "-", "-", "-"
		if n.Known {
			role, term, applied, lag = strings.ToLower(printable(n.Role)), fmt.Sprint(n.Term), grouped(n.Applied), grouped(n.Lag)
		}
		cell := fmt.Sprintf("%-10s", role)
		if n.Leads {
			cell = m.style.good.Render(cell)
		}
		lines = append(lines, fmt.Sprintf(" %s %s %8d  %s  %s %6s  %12s  %9s",
			m.mark(i), m.name(i, fmt.Sprintf("%-10s", n.Name)), n.PID, m.state(n.State), cell, term, applied, lag))
	}
	return lines
}

// storeTable is a line for each database.
func (m model) storeTable() []string {
	var lines []string
	for i, s := range m.now.Stores {
		row := len(m.now.Nodes) + len(m.now.Parties) + i
		prepared := "-"
		if s.Known {
			prepared = grouped(s.Prepared)
		}
		lines = append(lines, fmt.Sprintf(" %s %s%8d  %s  %s %9s",
			m.mark(row), m.name(row, fmt.Sprintf("%d %-9s", len(m.now.Parties)+i+1, s.Name)), s.PID, m.state(s.State), fmt.Sprintf("%-10s", "("+s.Of+")"), prepared))
	}
	return lines
}

func (m model) partyTable() []string {
	lines := []string{m.style.dim.Render(fmt.Sprintf("   %-10s %8s  %-8s  %-10s %9s  %9s  %9s", "participant", "pid", "state", "reachable", "prepared", "oldest", "owed"))}
	for i, p := range m.now.Parties {
		row := len(m.now.Nodes) + i
		prepared, oldest, owed, reachable := "-", "-", "-", fmt.Sprintf("%-10s", "-")
		if p.Known {
			prepared, oldest = grouped(int(p.Prepared)), short(p.Oldest)
		}
		if p.Told {
			owed, reachable = grouped(int(p.Owed)), m.style.good.Render(fmt.Sprintf("%-10s", "yes"))
			if !p.Reachable {
				reachable = m.style.bad.Render(fmt.Sprintf("%-10s", "no"))
			}
		}
		lines = append(lines, fmt.Sprintf(" %s %s%8d  %s  %s %9s  %9s  %9s",
			m.mark(row), m.name(row, fmt.Sprintf("%d %-9s", i+1, p.Name)), p.PID, m.state(p.State), reachable, prepared, oldest, owed))
	}
	return lines
}
