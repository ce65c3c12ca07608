"""conan create .: the recipe of packaging/conan, with the sources of this tree and the newest dependencies that it takes."""
import importlib.util
import re
from pathlib import Path

from conan.tools.files import copy

HERE = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("ssehub_recipe", HERE / "packaging/conan/all/conanfile.py")
recipe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipe)


class SsehubTree(recipe.SsehubConan):
    url = homepage = None
    exports = "packaging/conan/all/conanfile.py", "include/sse/version.hpp"
    test_package_folder = "packaging/conan/all/test_package"

    def set_version(self):
        text = (Path(self.recipe_folder) / "include/sse/version.hpp").read_text()
        self.version = re.search(r'define SSEHUB_VERSION "([^"]+)"', text)[1]

    def export_sources(self):
        for pattern in ("LICENSE", "include/*"):
            copy(self, pattern, self.recipe_folder, str(Path(self.export_sources_folder) / "src"))

    def requirements(self):
        ranges = {"asio": "asio/[>=1.22 <2]", "boost": "boost/[>=1.79]", "fmt": "fmt/[>=9]", "io_uring": "liburing/[>=2.3]",
                  "jetstream": "cnats/[>=3.4 <4]", "openssl": "openssl/[>=3 <4]"}
        for option in recipe.SsehubConan.options:
            if self.options.get_safe(option):
                self.requires(ranges[option.removeprefix("with_")])

    def source(self):
        pass
