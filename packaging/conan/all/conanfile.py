import os

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, get
from conan.tools.layout import basic_layout

required_conan_version = ">=2.0"


class SsehubConan(ConanFile):
    name = "ssehub"
    description = "Server-Sent Events for C++20: publish once, resume after a cut, inside any event loop"
    license = "MIT"
    url = "https://github.com/conan-io/conan-center-index"
    homepage = "@HOME@"
    topics = ("server-sent-events", "eventsource", "http", "streaming", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {
        "with_asio": [True, False],
        "with_boost": [True, False],
        "with_fmt": [True, False],
        "with_io_uring": [True, False],
        "with_jetstream": [True, False],
        "with_openssl": [True, False],
    }
    default_options = {
        "with_asio": False,
        "with_boost": False,
        "with_fmt": False,
        "with_io_uring": False,
        "with_jetstream": False,
        "with_openssl": False,
    }
    no_copy_source = True

    def config_options(self):
        if self.settings.os != "Linux":
            del self.options.with_io_uring
        if self.settings.os == "Windows":
            del self.options.with_jetstream
            del self.options.with_openssl

    def layout(self):
        basic_layout(self, src_folder="src")

    def requirements(self):
        if self.options.with_asio:
            self.requires("asio/1.32.0")
        if self.options.with_boost:
            self.requires("boost/1.86.0", options={"header_only": True})
        if self.options.with_fmt:
            self.requires("fmt/12.2.0")
        if self.options.get_safe("with_io_uring"):
            self.requires("liburing/2.15")
        if self.options.get_safe("with_jetstream"):
            self.requires("cnats/3.9.3")
        if self.options.get_safe("with_openssl"):
            self.requires("openssl/[>=3 <4]")

    def package_id(self):
        self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)

    def source(self):
        get(self, **self.conan_data["sources"][self.version], strip_root=True)

    def build(self):
        pass

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        copy(self, "*.hpp", os.path.join(self.source_folder, "include"), os.path.join(self.package_folder, "include"))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "ssehub")
        self.cpp_info.set_property("pkg_config_name", "ssehub")
        self._component("core", [])
        if self.settings.os == "Linux":
            self._component("epoll", ["core"])
        if self.settings.os != "Windows":
            self._component("journal", ["core"])
        if self.options.with_asio:
            self._component("asio", ["core", "asio::asio"])
        if self.options.with_boost:
            self._component("boost_asio", ["core", "boost::headers"])
            self.cpp_info.components["boost_asio"].defines = ["SSEHUB_BOOST_ASIO"]
        if self.options.with_fmt:
            self._component("fmt", ["core", "fmt::fmt"])
        if self.options.get_safe("with_io_uring"):
            self._component("io_uring", ["core", "liburing::liburing"])
        if self.options.get_safe("with_jetstream"):
            self._component("jetstream", ["core", "cnats::cnats"])
        if self.options.get_safe("with_openssl"):
            self._component("openssl", ["core", "openssl::ssl"])
        for name in ("asio", "boost_asio"):
            if self.settings.os == "Windows" and name in self.cpp_info.components:
                self.cpp_info.components[name].system_libs = ["ws2_32", "mswsock"]

    def _component(self, name, requires):
        component = self.cpp_info.components[name]
        component.set_property("cmake_target_name", f"ssehub::{name}")
        component.bindirs = []
        component.libdirs = []
        component.requires = requires
