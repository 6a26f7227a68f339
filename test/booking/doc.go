// Package booking runs the example of docs/examples/booking as it stands: three
// nodes, private PostgreSQL and MariaDB servers, and the example's services and
// its command as the processes that they are. The services' own stores are the
// judge. The commands of the example's README are run as well.
package booking
