import re
from pathlib import Path

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy
from conan.tools.layout import basic_layout

required_conan_version = ">=2.0"


class SsehubConan(ConanFile):
    name = "ssehub"
    description = "Server-Sent Events for C++: a header-only hub that runs inside any event loop"
    license = "MIT"
    topics = ("sse", "server-sent-events", "eventsource", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"with_asio": [True, False], "with_fmt": [True, False], "with_io_uring": [True, False],
               "with_openssl": [True, False], "with_simdjson": [True, False]}
    default_options = {"with_asio": False, "with_fmt": False, "with_io_uring": False, "with_openssl": False,
                       "with_simdjson": False}
    exports_sources = "LICENSE", "include/*"
    no_copy_source = True
    test_package_folder = "tests/packaging/conan"

    def set_version(self):
        text = (Path(self.recipe_folder) / "include" / "sse" / "version.hpp").read_text()
        self.version = re.search(r'define SSEHUB_VERSION "([^"]+)"', text)[1]

    def layout(self):
        basic_layout(self)

    def requirements(self):
        if self.options.with_asio:
            self.requires("asio/[>=1.22 <2]")
        if self.options.with_fmt:
            self.requires("fmt/[>=9]")
        if self.options.with_io_uring:
            self.requires("liburing/[>=2.3]")
        if self.options.with_openssl:
            self.requires("openssl/[>=3 <4]")
        if self.options.with_simdjson:
            self.requires("simdjson/[>=3]")

    def package_id(self):
        self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)

    def package(self):
        source, package = Path(self.source_folder), Path(self.package_folder)
        copy(self, "LICENSE", str(source), str(package / "licenses"))
        copy(self, "*.hpp", str(source / "include"), str(package / "include"))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "ssehub")
        self._component("core", [])
        if self.settings.os == "Linux":
            self._component("epoll", ["core"])
        if self.options.with_asio:
            self._component("asio", ["core", "asio::asio"])
        if self.options.with_fmt:
            self._component("fmt", ["core", "fmt::fmt"])
        if self.options.with_io_uring:
            self._component("io_uring", ["core", "liburing::liburing"])
        if self.options.with_openssl:
            self._component("openssl", ["core", "openssl::ssl"])
        if self.options.with_simdjson:
            self._component("simdjson", ["core", "simdjson::simdjson"])

    def _component(self, name, requires):
        component = self.cpp_info.components[name]
        component.set_property("cmake_target_name", f"ssehub::{name}")
        component.bindirs = component.libdirs = []
        component.requires = requires
