# caplet: thin lines over cargo. `make demo` shows it, `make test` proves it, `make install` installs it.
PREFIX ?= /usr
DESTDIR ?=
# Whose idiom the PAM file is in: debian (common-auth) or redhat (system-auth).
PAM_FAMILY ?= $(if $(wildcard /etc/pam.d/system-auth),redhat,debian)
BINDIR = $(PREFIX)/bin
LIBEXECDIR = $(PREFIX)/libexec/caplet
export CAPLET_BINDIR = $(BINDIR)
export CAPLET_LIBEXECDIR = $(LIBEXECDIR)

.PHONY: build demo test lint sabotage bench picture install clean

build:
	@lab/build.sh

demo:
	@lab/prepare.sh demo
	@lab/build.sh
	@lab/as-root.sh env CAPLET_BUILD="$(CURDIR)/target/release" bash lab/demo.sh

test:
	@lab/prepare.sh test
	@lab/test.sh

lint:
	@lab/cargo.sh fmt --check
	@lab/cargo.sh clippy --workspace --all-targets -- -D warnings

sabotage:
	@lab/prepare.sh test
	@lab/as-root.sh bash lab/sabotage.sh

# RESULTS=FILE: writes the reports there too.
bench: build
	@lab/prepare.sh test
	@lab/prepare.sh peers
	@lab/as-caller.sh bench/peers.sh target/peers
	@lab/as-root.sh env CAPLET_BUILD="$(CURDIR)/target/release" CAPLET_PEERS="$(CURDIR)/target/peers" bench/all.sh $(RESULTS)

# The README's picture, from a real login in a throwaway machine.
picture: build
	@lab/as-root.sh env CAPLET_BUILD="$(CURDIR)/target/release" PATH="$(PATH)" lab/cargo.sh run -q -p caplet-lab --example picture -- docs/session.svg

# Never overwrites a policy or a PAM file. As root the helper gets its setuid bit; a package gives it in its own description.
install: build
	install -d "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(LIBEXECDIR)" "$(DESTDIR)/etc/caplet/policy.d"
	install -m 0755 target/release/caplet "$(DESTDIR)$(BINDIR)/caplet"
	ln -sf caplet "$(DESTDIR)$(BINDIR)/caplet-shell"
	if [ "$$(id -u)" = 0 ]; then mode=4755; else mode=0755; fi; \
	install -m $$mode target/release/caplet-helper "$(DESTDIR)$(LIBEXECDIR)/caplet-helper"
	if [ ! -e "$(DESTDIR)/etc/caplet/policy.toml" ]; then \
	install -m 0640 etc/policy.toml "$(DESTDIR)/etc/caplet/policy.toml"; fi
	install -d "$(DESTDIR)/etc/pam.d"
	if [ ! -e "$(DESTDIR)/etc/pam.d/caplet" ]; then \
	install -m 0644 etc/pam.d/caplet.$(PAM_FAMILY) "$(DESTDIR)/etc/pam.d/caplet"; fi
	install -d "$(DESTDIR)$(PREFIX)/share/doc/caplet/examples"
	install -m 0644 etc/ssh/sshd_config.d/caplet.conf "$(DESTDIR)$(PREFIX)/share/doc/caplet/examples/sshd-caplet.conf"

clean:
	@lab/cargo.sh clean
