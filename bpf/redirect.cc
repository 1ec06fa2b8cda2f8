// SPDX-License-Identifier: Apache-2.0
#include "bpf/redirect.h"

#include <bpf/bpf.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "bpf/object.h"
#include "bpf/tc_attachment.h"

namespace guideway {

static_assert(std::size(kRedirectCounters) == GW_REDIRECT_COUNTERS_END);

namespace {

constexpr uint32_t kOnly = 0;  // the one key of `secret`

Result<gw_secret> secret_in(int map_fd) {
  gw_secret secret;
  if (bpf_map_lookup_elem(map_fd, &kOnly, &secret) != 0)
    return fail("", "reading a BPF map: " + std::string(std::strerror(errno)));
  return secret;
}

Result<void> set_secret(int map_fd, const gw_secret& secret) {
  if (bpf_map_update_elem(map_fd, &kOnly, &secret, BPF_ANY) != 0)
    return fail("", "writing a BPF map: " + std::string(std::strerror(errno)));
  return {};
}

bool is_set(const gw_secret& secret) {
  return (secret.mac[0] & 1) != 0;
}

Result<gw_secret> fresh_secret() {
  gw_secret secret{};
  if (getrandom(secret.mac, sizeof secret.mac, 0) != sizeof secret.mac)
    return fail("", "asking for randomness: " + std::string(std::strerror(errno)));
  secret.mac[0] |= 1;
  return secret;
}

}  // namespace

Result<Redirect> Redirect::of(const Interface& interface, Attachment attachment) {
  Redirect redirect;
  redirect.interface_ = interface;
  redirect.attachment_ = std::move(attachment);
  const std::pair<const char*, UniqueFd*> maps[] = {{"allowed", &redirect.allowed_},
                                                    {"local", &redirect.local_},
                                                    {"redir_counters", &redirect.counters_},
                                                    {"secret", &redirect.secret_}};
  for (auto [name, map] : maps) {
    Result<UniqueFd> found = map_of_program(redirect.attachment_.fd.get(), name);
    if (!found) {
      Error error = found.error();
      error.field = interface.name;
      return tl::unexpected(error);
    }
    *map = std::move(*found);
  }
  return redirect;
}

Result<std::optional<Redirect>> Redirect::find(const std::string& name) {
  Result<Interface> interface = Interface::find(name);
  if (!interface) return tl::unexpected(interface.error());
  Result<std::optional<Attachment>> there = xdp_attachment_of(*interface, GW_REDIRECT_PROGRAM);
  if (!there) return tl::unexpected(there.error());
  if (!*there) return std::optional<Redirect>{};
  return of(*interface, std::move(**there)).map([](Redirect&& redirect) {
    return std::optional<Redirect>(std::move(redirect));
  });
}

Result<std::vector<Redirect>> Redirect::find_all() {
  std::unique_ptr<struct if_nameindex, decltype(&if_freenameindex)> list(if_nameindex(),
                                                                         if_freenameindex);
  if (!list) return fail("", "listing interfaces: " + std::string(std::strerror(errno)));
  std::vector<Redirect> found;
  for (const struct if_nameindex* one = list.get(); one->if_index != 0; ++one) {
    Interface interface { one->if_name, one->if_index };
    Result<std::vector<Attachment>> all = xdp_attachments(interface);
    if (!all) return tl::unexpected(all.error());
    for (Attachment& attachment : *all) {
      if (attachment.program != GW_REDIRECT_PROGRAM) continue;
      Result<Redirect> redirect = of(interface, std::move(attachment));
      if (!redirect) return tl::unexpected(redirect.error());
      found.push_back(std::move(*redirect));
    }
  }
  return found;
}

Result<Redirect> Redirect::attach(const std::string& name, const std::string& object_path,
                                  std::span<const Prefix> allowed, std::span<const Address> local) {
  Result<Interface> interface = Interface::find(name);
  if (!interface) return tl::unexpected(interface.error());
  Result<std::optional<Attachment>> there = xdp_attachment_of(*interface, GW_REDIRECT_PROGRAM);
  if (!there) return tl::unexpected(there.error());
  Result<BpfObject> object = BpfObject::load(object_path);
  if (!object) return tl::unexpected(object.error());
  Result<Attachment> fresh = object->program(GW_REDIRECT_PROGRAM).and_then(describe_program);
  if (!fresh) return tl::unexpected(fresh.error());

  bool same = *there && (*there)->tag == fresh->tag;
  Result<Redirect> made = of(*interface, std::move(same ? **there : *fresh));
  if (!made) return made;
  // The lists come first: from its first packet on the program takes what it should. And the tc
  // half before the XDP half, whose packets it sends on.
  Result<void> ready =
      made->set_lists(allowed, local).and_then([&] { return made->share_secret(*object, *there); });
  if (ready) ready = made->attach_onward(*object);
  if (!ready) return tl::unexpected(ready.error());

  int program_fd = made->attachment_.fd.get();
  if (same) {
    made->how_ = How::adopted;
  } else if (*there) {
    made->how_ = How::replaced;
    made->attachment_.mode = (*there)->mode;
    Result<void> replaced = xdp_replace(*interface, **there, program_fd);
    if (!replaced) return tl::unexpected(replaced.error());
  } else {
    made->how_ = How::attached;
    Result<XdpMode> mode = xdp_attach(*interface, program_fd, &made->why_generic_);
    if (!mode) {
      (void)tc_detach(*interface);
      return tl::unexpected(mode.error());
    }
    made->attachment_.mode = *mode;
  }
  return made;
}

// One secret for all that runs here now or in a moment: old and new halves understand each other.
Result<void> Redirect::share_secret(const BpfObject& object, const std::optional<Attachment>& old) {
  Result<gw_secret> secret = secret_in(secret_.get());
  if (secret && !is_set(*secret) && old && old->fd) {
    // An older version may have had none.
    Result<UniqueFd> map = map_of_program(old->fd.get(), "secret");
    if (map) secret = secret_in(map->get());
  }
  if (secret && !is_set(*secret)) secret = fresh_secret();
  if (!secret) return tl::unexpected(secret.error());
  Result<int> loaded = object.map_fd("secret");
  if (!loaded) return tl::unexpected(loaded.error());
  return set_secret(*loaded, *secret).and_then([&] { return set_secret(secret_.get(), *secret); });
}

Result<void> Redirect::attach_onward(const BpfObject& object) {
  Result<Attachment> fresh = object.program(GW_ONWARD_PROGRAM).and_then(describe_program);
  if (!fresh) return tl::unexpected(fresh.error());
  Result<std::optional<Attachment>> there = tc_attachment_of(interface_, GW_ONWARD_PROGRAM);
  if (!there) return tl::unexpected(there.error());
  if (*there && (*there)->tag == fresh->tag) {
    Result<bool> works = sends_on();
    if (works && *works) return {};
  }
  return tc_attach(interface_, fresh->fd.get());
}

Result<bool> Redirect::sends_on() const {
  Result<std::optional<Attachment>> there = tc_attachment_of(interface_, GW_ONWARD_PROGRAM);
  if (!there) return tl::unexpected(there.error());
  if (!*there) return false;
  Result<UniqueFd> map = map_of_program((*there)->fd.get(), "secret");
  if (!map) return false;
  Result<gw_secret> its = secret_in(map->get());
  Result<gw_secret> ours = secret_in(secret_.get());
  if (!its || !ours) return tl::unexpected((its ? ours : its).error());
  return is_set(*ours) && std::memcmp(its->mac, ours->mac, sizeof its->mac) == 0;
}

Result<void> Redirect::set_lists(std::span<const Prefix> allowed, std::span<const Address> local) {
  return set_allowed(allowed).and_then([&] { return set_local(local); });
}

Result<void> Redirect::set_allowed(std::span<const Prefix> wanted) {
  if (wanted.size() > kAllowedPrefixesMax)
    return fail(interface_.name, std::to_string(wanted.size()) + " allowed prefixes, at most " +
                                     std::to_string(kAllowedPrefixesMax) + " fit");
  return set_prefixes(allowed_.get(), wanted);
}

Result<void> Redirect::set_local(std::span<const Address> wanted) {
  if (wanted.size() > GW_REDIRECT_LOCAL_MAX)
    return fail(interface_.name, "the host has " + std::to_string(wanted.size()) +
                                     " addresses, at most " +
                                     std::to_string(GW_REDIRECT_LOCAL_MAX) + " fit");
  return set_addresses(local_.get(), wanted);
}

Result<std::set<Prefix>> Redirect::allowed() const {
  return prefixes_in(allowed_.get());
}
Result<std::set<Address>> Redirect::local() const {
  return addresses_in(local_.get());
}

Result<RedirectCounters> Redirect::counters() const {
  return sum_counters(counters_.get(), GW_REDIRECT_COUNTERS_END)
      .map([](const std::vector<uint64_t>& sums) {
        RedirectCounters counters{};
        std::copy(sums.begin(), sums.end(), counters.begin());
        return counters;
      });
}

Result<bool> Redirect::attached() const {
  Result<bool> in_xdp = xdp_is_attached(interface_, attachment_.program_id);
  if (!in_xdp || !*in_xdp) return in_xdp;
  return sends_on();
}

Result<void> Redirect::detach() {
  if (Result<void> gone = xdp_detach(interface_, attachment_); !gone) return gone;
  Result<std::optional<Attachment>> onward = tc_attachment_of(interface_, GW_ONWARD_PROGRAM);
  // Not ours to take off.
  if (!onward || !*onward) return {};
  return tc_detach(interface_);
}

Result<std::set<Address>> host_addresses(const std::string& interface) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0)
    return fail("", "reading this host's addresses: " + std::string(std::strerror(errno)));
  std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);

  std::set<Address> addresses;
  for (const ifaddrs* one = list; one; one = one->ifa_next) {
    // An alias "eth1:0" is eth1's.
    const std::string_view name(one->ifa_name, std::strcspn(one->ifa_name, ":"));
    if (!one->ifa_addr || (!interface.empty() && interface != name)) continue;
    if (one->ifa_addr->sa_family == AF_INET) {
      const auto* v4 = reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
      Address address = Address::from_v4(&v4->sin_addr);
      if (address.v4()[0] != IN_LOOPBACKNET) addresses.insert(address);
    } else if (one->ifa_addr->sa_family == AF_INET6) {
      const auto* v6 = reinterpret_cast<const sockaddr_in6*>(one->ifa_addr);
      if (!IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr)) addresses.insert(Address::from_v6(&v6->sin6_addr));
    }
  }
  return addresses;
}

}  // namespace guideway
